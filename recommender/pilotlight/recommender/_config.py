"""Reading a model's `config.json`, whose keys have many names and whose values may be anything."""

from __future__ import annotations

from collections.abc import Mapping

from pilotlight.recommender._defaults import NESTED
from pilotlight.recommender.errors import BadConfig

Config = Mapping[str, object]
LARGEST = 2**31
"""Of any number in a configuration: a tokenizer's "no limit" (1e30) must not become a size."""
MOST_LAYERS = 10_000
"""More than any model has: what is done for each layer must not be done two billion times."""
_ALIASES = {  # GPT-2's, Falcon's, OPT's, DistilBERT's and their descendants' names
    "num_hidden_layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("num_attention_heads", "n_head", "n_heads"),
    "num_key_value_heads": ("num_key_value_heads", "num_kv_heads", "n_head_kv"),
    "hidden_size": ("hidden_size", "n_embd", "d_model", "dim"),
    "intermediate_size": ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "hidden_dim"),
    "max_position_embeddings": ("max_position_embeddings", "n_positions"),
    "num_experts": ("num_experts", "num_local_experts", "n_routed_experts"),
    "num_experts_per_tok": ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk"),
}


def text_config(config: Config) -> Config:
    """The language model's part: multimodal configurations nest it."""
    for key in ("text_config", "llm_config", "language_config"):
        nested = config.get(key)
        if isinstance(nested, Mapping):
            return {**config, **NESTED.get(str(nested.get("model_type", "")), {}), **nested}
    return config


def section(config: Config, key: str) -> Config | None:
    nested = config.get(key)
    return nested if isinstance(nested, Mapping) else None


def model_type(config: Config) -> str:
    return str(config.get("model_type", ""))


def number(config: Config, key: str) -> int | None:
    """A positive number under the key or one of its other names; None where there is none that makes sense."""
    for name in _ALIASES.get(key, (key,)):
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST:
            return value
    return None


def need(config: Config, key: str) -> int:
    """Raises `BadConfig` where the key is missing or no positive number."""
    value = number(config, key)
    if value is None:
        found = "missing" if key not in config else repr(config[key])[:60]
        raise BadConfig(key, f"config.json: {key} is {found}, expected a positive whole number")
    return value


def truth(config: Config, key: str, default: bool = False) -> bool:
    value = config.get(key, default)
    return value if isinstance(value, bool) else default


def names(config: Config, key: str, count: int) -> tuple[str, ...] | None:
    """A list with one name for each of `count` layers."""
    value = config.get(key)
    return tuple(map(str, value)) if isinstance(value, list | tuple) and len(value) == count else None


def indices(config: Config, key: str) -> frozenset[int]:
    value = config.get(key)
    return (
        frozenset(item for item in value if isinstance(item, int)) if isinstance(value, list | tuple) else frozenset()
    )


def ratio(config: Config, key: str) -> float | None:
    value = config.get(key)
    return float(value) if isinstance(value, int | float) and 0 < value <= LARGEST else None


def heads(config: Config) -> tuple[int, int, int]:
    """Attention heads, key-value heads and the size of a head.

    Raises:
        BadConfig: The counts contradict each other: heads that no layer could be built with.
    """
    count = need(config, "num_attention_heads")
    if model_type(config) == "falcon" and not truth(config, "new_decoder_architecture"):
        kv_heads = 1 if truth(config, "multi_query", True) else count
    else:
        kv_heads = number(config, "num_key_value_heads") or (1 if truth(config, "multi_query") else count)
    if kv_heads > count or count % kv_heads:
        raise BadConfig(
            "num_key_value_heads",
            f"config.json: {count} attention heads cannot share {kv_heads} key-value heads;"
            " num_key_value_heads must divide num_attention_heads",
        )
    size = number(config, "head_dim") or number(config, "head_size")
    hidden = need(config, "hidden_size")
    if size is None and hidden % count:
        raise BadConfig(
            "num_attention_heads",
            f"config.json: num_attention_heads is {count}, which does not divide hidden_size {hidden}, and head_dim is"
            " missing",
        )
    return count, kv_heads, size or hidden // count
