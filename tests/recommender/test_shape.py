"""What a step reads and computes, by configuration, against published sizes."""

import pytest

from pilotlight.recommender.shape import ModelShape, ShapeUnknown, known_shapes, read_shape

LLAMA: dict[str, object] = {
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


def test_a_multimodal_configuration_is_read_in_its_text_part() -> None:
    assert read_shape({"model_type": "some_vl", "text_config": LLAMA}) == read_shape(LLAMA)


@pytest.mark.parametrize("key", ["num_hidden_layers", "hidden_size", "num_attention_heads"])
@pytest.mark.parametrize("value", [None, 0, -1, True, "many", 10**30])
def test_what_every_decoder_has_is_asked_for_by_name(key: str, value: object) -> None:
    with pytest.raises(ShapeUnknown, match=key) as caught:
        read_shape({**LLAMA, key: value})

    assert caught.value.key == key
