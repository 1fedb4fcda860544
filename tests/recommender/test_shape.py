"""What a step reads and computes, by configuration, against published sizes."""

import pytest
from tests.recommender.asking import known_shapes

from pilotlight.recommender import ModelFacts, config_facts, count_parameters
from pilotlight.recommender.shape import ModelShape, known_configs, shape_of

LLAMA: dict[str, object] = {
    "model_type": "llama",
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}


def stored(shape: ModelShape) -> int:
    """Input embeddings as large as the output head."""
    return shape.dense_parameters + 2 * shape.head_parameters + shape.expert_parameters


@pytest.mark.parametrize(
    ("model", "total", "active"),
    [
        ("meta-llama/Llama-3.1-70B", 70.6e9, 69.5e9),
        ("nvidia/Llama-3.1-8B-Instruct-FP8", 8.03e9, 7.5e9),
        ("Qwen/Qwen3-32B", 32.8e9, 32e9),
        ("Qwen/Qwen3-235B-A22B-FP8", 235e9, 22e9),
        ("MiniMaxAI/MiniMax-M2.5", 229e9, 10.4e9),
        ("moonshotai/Kimi-K2.5", 1026e9, 32e9),
        ("openai/gpt-oss-120b", 117e9, 5.1e9),
    ],
)
def test_sizes_are_the_published_ones(model: str, total: float, active: float) -> None:
    shape = known_shapes()[model]

    assert stored(shape) == pytest.approx(total, rel=0.01)
    assert shape.active_parameters == pytest.approx(active, rel=0.06)


def test_a_latent_cache_is_one_head_of_576_values_per_layer() -> None:
    shape = known_shapes()["moonshotai/Kimi-K2.5"]

    assert (shape.kv_heads, shape.kv_values) == (1, 61 * 576)


def test_layers_with_a_window_are_counted_apart() -> None:
    shape = known_shapes()["openai/gpt-oss-120b"]

    assert shape.kv_values == shape.windowed_kv_values == 18 * 2 * 8 * 64
    assert shape.window == 128


@pytest.mark.parametrize("model", sorted(known_configs()))
def test_parameters_are_those_that_were_counted(model: str) -> None:
    config, shape = known_configs()[model], known_shapes()[model]
    counts = count_parameters(config)

    assert shape.expert_parameters == counts.get("experts", 0)
    assert shape.dense_parameters + shape.head_parameters + shape.expert_parameters == (
        sum(counts.values()) - counts["embedding"]
    )


def test_a_multimodal_configuration_is_read_in_its_text_part() -> None:
    assert shape_of(config_facts({"model_type": "some_vl", "text_config": LLAMA})) == shape_of(config_facts(LLAMA))


def test_quantised_weights_are_read_as_they_are_packed_and_the_head_at_sixteen_bits() -> None:
    plain = shape_of(config_facts(LLAMA))
    packed = shape_of(config_facts({**LLAMA, "quantization_config": {"quant_method": "fp8"}}))

    assert packed.dense_bytes == pytest.approx(plain.dense_bytes / 2, rel=1e-3)
    assert packed.head_bytes == plain.head_bytes == plain.head_parameters * 2


def test_an_engine_of_another_width_reads_plain_numbers_so() -> None:
    facts = config_facts(LLAMA)

    assert shape_of(facts, 4).dense_bytes == 2 * shape_of(facts).dense_bytes
    assert shape_of(facts, 4).head_bytes == 2 * shape_of(facts).head_bytes


def test_a_state_is_kept_once_and_grows_with_no_token() -> None:
    hybrid = shape_of(
        config_facts(
            {
                **LLAMA,
                "model_type": "bamba",
                "attn_layer_indices": [9],
                "mamba_n_heads": 128,
                "mamba_d_head": 64,
                "mamba_d_state": 256,
                "mamba_n_groups": 1,
                "mamba_d_conv": 4,
                "mamba_expand": 2,
            }
        )
    )

    assert (hybrid.attention_layers, hybrid.kv_values) == (1, 2 * 8 * 128)
    assert hybrid.state_values > 31 * 128 * 64 * 256


def test_an_encoder_has_no_head_and_keeps_nothing() -> None:
    facts = ModelFacts("BertModel", 90_000_000, 22_500_000, 0, 512, 30522, 384, 6, "embed", heads=12, encoder=True)

    assert (shape_of(facts).head_parameters, shape_of(facts).kv_values) == (0, 0)
    assert shape_of(facts).dense_bytes == 4 * facts.parameters
