"""What one step of a decoder reads and computes, read from its `config.json`: the roofline's view of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from pilotlight.recommender.errors import RecommenderError

_LARGEST = 2**40


class ShapeUnknown(RecommenderError):  # noqa: N818 - a verdict, not a failure
    """A configuration lacks what the roofline needs.

    Args:
        key: The missing or unusable key of `config.json`.
    """

    def __init__(self, key: str) -> None:
        super().__init__(f"the model's configuration has no usable {key}; without it no speed can be estimated")
        self.key = key


@dataclass(frozen=True)
class ModelShape:
    """A model in what its steps cost; counts of values, not bytes."""

    layers: int
    dense_parameters: int
    """Read whole in every step: attention, dense MLPs, shared experts."""
    head_parameters: int
    """The output head; engines keep it at 16 bits."""
    attention_width: int
    """Query heads times their size."""
    kv_heads: int
    """1 for a latent (MLA): it cannot be split over devices."""
    kv_values: int
    """Cached per token, in layers that see everything."""
    windowed_kv_values: int = 0
    """Cached per token, in layers with a sliding window."""
    window: int = 0
    """Tokens."""
    expert_parameters: int = 0
    """Of all routed experts of all layers."""
    experts: int = 0
    experts_per_token: int = 0

    @property
    def active_parameters(self) -> float:
        """Multiplied with each token."""
        share = self.experts_per_token / self.experts if self.experts else 0.0
        return self.dense_parameters + self.head_parameters + self.expert_parameters * share

    @property
    def kv_values_whole(self) -> int:
        """Cached per token while nothing has left the window."""
        return self.kv_values + self.windowed_kv_values


def read_shape(config: Mapping[str, Any]) -> ModelShape:
    """Read a shape from `config.json`; a multimodal one's text part counts.

    Raises:
        ShapeUnknown: A number that every decoder has is missing or senseless.
    """
    nested = config.get("text_config")
    config = {**config, **nested} if isinstance(nested, Mapping) else config
    layers, hidden, heads = (_need(config, key) for key in _EVERY)
    size = _number(config, "head_dim") or max(1, hidden // heads)
    experts = _first(config, "num_local_experts", "num_experts", "n_routed_experts")
    inner = _number(config, "intermediate_size") or 4 * hidden
    moe_inner = _number(config, "moe_intermediate_size") or inner
    sparse = layers - _number(config, "first_k_dense_replace") if experts else 0
    shared = sparse * _first(config, "n_shared_experts", "num_shared_experts") * moe_inner
    attention, kv_heads, cached = _attention(config, hidden, heads, size)
    windowed = _windowed_layers(config, layers)
    return ModelShape(
        layers=layers,
        dense_parameters=layers * attention + 3 * hidden * ((layers - sparse) * inner + shared),
        head_parameters=hidden * _number(config, "vocab_size"),
        attention_width=heads * size,
        kv_heads=kv_heads,
        kv_values=(layers - windowed) * cached,
        windowed_kv_values=windowed * cached,
        window=_number(config, "sliding_window") if windowed else 0,
        expert_parameters=sparse * experts * 3 * hidden * moe_inner,
        experts=experts,
        experts_per_token=_first(config, "num_experts_per_tok", "experts_per_token") or min(1, experts),
    )


@cache
def known_shapes() -> Mapping[str, ModelShape]:
    """Models whose measurements are public, by their names on the Hugging Face hub."""
    text = resources.files("pilotlight.recommender").joinpath("data/models.yaml").read_text()
    return {name: read_shape(config) for name, config in yaml.safe_load(text).items()}


_EVERY = ("num_hidden_layers", "hidden_size", "num_attention_heads")


def _attention(config: Mapping[str, Any], hidden: int, heads: int, size: int) -> tuple[int, int, int]:
    """Parameters of one layer's attention, heads of its cache, values it caches per token."""
    latent, rope = _number(config, "kv_lora_rank"), _number(config, "qk_rope_head_dim")
    if not latent:
        kv_heads = _number(config, "num_key_value_heads") or heads
        return hidden * size * (2 * heads + 2 * kv_heads), kv_heads, 2 * kv_heads * size
    plain, value = _number(config, "qk_nope_head_dim"), _number(config, "v_head_dim")
    query = _number(config, "q_lora_rank")
    wide = heads * (plain + rope)
    queries = query * (hidden + wide) if query else hidden * wide
    cached = latent + rope
    return queries + hidden * cached + latent * heads * (plain + value) + heads * value * hidden, 1, cached


def _windowed_layers(config: Mapping[str, Any], layers: int) -> int:
    if not _number(config, "sliding_window") or config.get("use_sliding_window") is False:
        return 0
    kinds = config.get("layer_types")
    return sum(kind == "sliding_attention" for kind in kinds) if isinstance(kinds, list) else layers


def _number(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST else 0


def _first(config: Mapping[str, Any], *keys: str) -> int:
    return next((number for key in keys if (number := _number(config, key))), 0)


def _need(config: Mapping[str, Any], key: str) -> int:
    number = _number(config, key)
    if not number:
        raise ShapeUnknown(key)
    return number
