"""Models made of nothing but their shapes."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

from pilotlight.recommender import ModelFacts, Tensor, read_facts

# A busy machine is no counterexample to a property.
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")

WIDTHS = {"F32": 4, "BF16": 2, "F16": 2}
Config = dict[str, object]
Tensors = dict[str, Tensor]


def _tensor(*shape: int, dtype: str = "BF16") -> Tensor:
    count = 1
    for side in shape:
        count *= side
    return Tensor(dtype, shape, count * WIDTHS[dtype])


def _llama(dtype: str = "BF16", **changes: object) -> tuple[Config, Tensors]:
    """A configuration as SmolLM2-135M-Instruct's, and the tensors that go with it."""
    config: Config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    } | changes
    sizes = {name: value for name, value in config.items() if isinstance(value, int)}
    hidden, inner, heads, kv = (
        sizes[name] for name in ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
    )
    head = sizes.get("head_dim", hidden // heads)
    tensors = {"model.embed_tokens.weight": _tensor(sizes["vocab_size"], hidden, dtype=dtype)}
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = _tensor(sizes["vocab_size"], hidden, dtype=dtype)
    for layer in range(sizes["num_hidden_layers"]):
        base = f"model.layers.{layer}"
        tensors |= {
            f"{base}.self_attn.q_proj.weight": _tensor(heads * head, hidden, dtype=dtype),
            f"{base}.self_attn.k_proj.weight": _tensor(kv * head, hidden, dtype=dtype),
            f"{base}.self_attn.v_proj.weight": _tensor(kv * head, hidden, dtype=dtype),
            f"{base}.self_attn.o_proj.weight": _tensor(hidden, heads * head, dtype=dtype),
            f"{base}.mlp.gate_proj.weight": _tensor(inner, hidden, dtype=dtype),
            f"{base}.mlp.up_proj.weight": _tensor(inner, hidden, dtype=dtype),
            f"{base}.mlp.down_proj.weight": _tensor(hidden, inner, dtype=dtype),
        }
    return config, tensors


@pytest.fixture(scope="session")
def llama() -> Callable[..., tuple[Config, Tensors]]:
    return _llama


@pytest.fixture(scope="session")
def smollm2() -> ModelFacts:
    return read_facts(*_llama())


@pytest.fixture(scope="session")
def llama8b() -> ModelFacts:
    return read_facts(
        *_llama(
            hidden_size=4096,
            intermediate_size=14336,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=8,
            vocab_size=128256,
            max_position_embeddings=131072,
            tie_word_embeddings=False,
        )
    )
