"""Quantised checkpoints count what they unpack to, and their configurations foretell their bytes."""

from typing import Any

import pytest

from pilotlight.recommender import Tensor, config_facts, read_facts

WIDTHS = {"BF16": 2, "F16": 2, "F32": 4, "F8_E4M3": 1, "F8_E8M0": 1, "U8": 1, "I8": 1, "I32": 4}
LAYER = "model.layers.0.mlp.down_proj"
CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 1024,
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}


def tensors(**shapes: tuple[str, tuple[int, ...]]) -> dict[str, Tensor]:
    made = {}
    for name, (dtype, shape) in shapes.items():
        count = 1
        for side in shape:
            count *= side
        made[f"{LAYER}.{name}"] = Tensor(dtype, shape, count * WIDTHS[dtype])
    return made


# One matrix of 512 x 1,024 as each format stores it.
@pytest.mark.parametrize(
    ("packing", "stored"),
    [
        pytest.param(
            {"quant_method": "fp8", "weight_block_size": [128, 128]},
            tensors(weight=("F8_E4M3", (512, 1024)), weight_scale_inv=("F32", (4, 8))),
            id="fp8 in blocks",
        ),
        pytest.param(
            {"quant_method": "gptq", "bits": 4, "group_size": 128},
            tensors(
                qweight=("I32", (128, 512)), qzeros=("I32", (8, 64)), scales=("F16", (8, 512)), g_idx=("I32", (1024,))
            ),
            id="gptq, 4 bits",
        ),
        pytest.param(
            {"quant_method": "gptq", "bits": 8, "group_size": 128},
            tensors(qweight=("I32", (256, 512)), qzeros=("I32", (8, 128)), scales=("F16", (8, 512))),
            id="gptq, 8 bits",
        ),
        pytest.param(
            {"quant_method": "awq", "bits": 4, "group_size": 128},
            tensors(qweight=("I32", (1024, 64)), qzeros=("I32", (8, 64)), scales=("F16", (8, 512))),
            id="awq",
        ),
        pytest.param(
            {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 8}}}},
            tensors(weight=("I8", (512, 1024)), weight_scale=("BF16", (512, 1))),
            id="int8, compressed-tensors",
        ),
        pytest.param(
            {
                "quant_method": "compressed-tensors",
                "format": "pack-quantized",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 128}}},
            },
            tensors(weight_packed=("I32", (512, 128)), weight_scale=("BF16", (512, 8)), weight_shape=("I32", (2,))),
            id="int4, compressed-tensors",
        ),
        pytest.param(
            {"quant_method": "mxfp4"},
            tensors(weight_blocks=("U8", (512, 32, 16)), weight_scales=("U8", (512, 32))),
            id="mxfp4",
        ),
        pytest.param(
            {"quant_method": "modelopt", "quant_algo": "NVFP4"},
            tensors(
                weight=("U8", (512, 512)),
                weight_scale=("F8_E4M3", (512, 64)),
                weight_scale_2=("F32", ()),
                input_scale=("F32", ()),
            ),
            id="nvfp4",
        ),
    ],
)
def test_packed_values_count_once_and_scales_not_at_all(packing: dict[str, Any], stored: dict[str, Tensor]) -> None:
    facts = read_facts(CONFIG | {"quantization_config": packing}, stored)

    assert facts.quantized
    assert facts.parameters == 512 * 1024
    assert facts.weight_bytes == sum(tensor.bytes for tensor in stored.values())
    assert facts.parameters_by_kind == {"mlp": 512 * 1024}


PLAIN = config_facts(CONFIG)
MATRICES = PLAIN.parameters_by_kind["attention"] + PLAIN.parameters_by_kind["mlp"]


@pytest.mark.parametrize(
    ("packing", "bits"),
    [
        pytest.param({"quant_method": "fp8"}, 8, id="fp8"),
        pytest.param({"quant_method": "awq", "bits": 4, "group_size": 128}, 4 + 20 / 128, id="awq"),
        pytest.param({"quant_method": "gptq", "bits": 8, "group_size": 64}, 8 + 24 / 64, id="gptq"),
        pytest.param({"quant_method": "mxfp4"}, 4.25, id="mxfp4"),
        pytest.param({"quant_algo": "NVFP4"}, 4.5, id="nvfp4"),
        pytest.param({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4.125, id="bitsandbytes, 4 bits"),
        pytest.param({"quant_method": "novel"}, 8, id="unknown: 8 bits"),
    ],
)
def test_a_configuration_alone_foretells_the_bytes_and_says_how(packing: dict[str, Any], bits: float) -> None:
    facts = config_facts(CONFIG | {"quantization_config": packing})

    assert facts.parameters == PLAIN.parameters
    assert facts.weight_bytes == pytest.approx((PLAIN.parameters - MATRICES) * 2 + MATRICES * bits / 8, rel=1e-4)
    assert any("bits a value" in why for why in facts.estimates)


def test_attention_that_is_left_in_sixteen_bits_counts_so() -> None:
    skipped = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]}

    facts = config_facts(CONFIG | {"quantization_config": skipped})

    assert facts.parameters_by_dtype["mxfp4"] == PLAIN.parameters_by_kind["mlp"]


def test_another_number_format_in_the_engine_leaves_packed_values_as_they_are() -> None:
    facts = config_facts(CONFIG | {"quantization_config": {"quant_method": "fp8"}})

    wide, narrow = facts.rank_weight_bytes(1, 4), facts.rank_weight_bytes(1, 2)

    assert narrow == facts.weight_bytes
    assert wide - narrow == 2 * (facts.parameters - MATRICES)


INT8, FLOAT8 = ({"group": {"weights": {"num_bits": 8, "type": kind}}} for kind in ("int", "float"))


@pytest.mark.parametrize(
    ("quantization", "multiplied"),
    [
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "mxfp4"}, "fp4"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "fp4"),
        ({"quant_method": "awq", "bits": 4}, "bf16"),
        ({"quant_method": "compressed-tensors", "config_groups": INT8}, "int8"),
        ({"quant_method": "compressed-tensors", "config_groups": FLOAT8}, "fp8"),
    ],
)
def test_weights_are_multiplied_in_their_own_format_or_in_sixteen_bits(
    quantization: dict[str, Any], multiplied: str
) -> None:
    assert config_facts({**CONFIG, "quantization_config": quantization}).arithmetic == multiplied
