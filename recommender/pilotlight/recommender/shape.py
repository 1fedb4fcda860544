"""What one step of a model reads and computes: the roofline's view of `ModelFacts`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml

from pilotlight.recommender._parts import WeightPart
from pilotlight.recommender._units import ENGINE_WIDTHS, STORED_NAMES
from pilotlight.recommender._weights import Kind
from pilotlight.recommender.cache import CacheLayer
from pilotlight.recommender.facts import ModelFacts

_TABLES: frozenset[Kind] = frozenset({"embedding", "lm_head"})
_TOWERS: frozenset[Kind] = frozenset({"vision", "audio"})  # no text token passes them
_PLAIN_BYTES = 2


@dataclass(frozen=True)
class ModelShape:
    """A model in what its steps cost."""

    layers: int
    dense_parameters: int
    """Multiplied with every token: attention, state spaces, dense MLPs, shared experts, routers."""
    dense_bytes: float
    """Of those; every step reads them whole."""
    head_parameters: int
    """The output matrix, be it the input's too; 0 for an encoder."""
    head_bytes: float
    attention_width: int
    """Query heads times their size."""
    attention_layers: int
    kv_heads: int
    """1 for a latent (MLA): it cannot be split over devices."""
    kv_values: int
    """Cached per token, in layers that see everything."""
    windowed_kv_values: int = 0
    """Cached per token, in layers with a sliding window or chunks."""
    window: int = 0
    """Tokens."""
    state_values: int = 0
    """Kept per sequence, whatever its length."""
    expert_parameters: int = 0
    """Of all routed experts of all layers."""
    expert_bytes: float = 0.0
    expert_share: float = 0.0
    """Of its layer's experts, those that one token passes."""

    @property
    def active_parameters(self) -> float:
        """Multiplied with each token."""
        return self.dense_parameters + self.head_parameters + self.expert_parameters * self.expert_share


def shape_of(facts: ModelFacts, width: int | None = None) -> ModelShape:
    """A model's shape.

    Args:
        facts: What is known of it; what it counted is not counted again here.
        width: Bytes of a plain number in the engine; None: as stored. Quantised values stay as they are.
    """
    experts = [part for part in facts.parts if part.kind == "experts"]
    dense = [part for part in facts.parts if part.kind not in (*_TABLES, *_TOWERS, "experts") and not part.buffer]
    head = 0 if facts.encoder else facts.vocabulary * facts.hidden_size
    plain = width or ENGINE_WIDTHS.get(facts.dtype, _PLAIN_BYTES)
    dense_parameters = _parameters(dense) if facts.parts else max(1, facts.parameters - head)
    expert_parameters = _parameters(experts)
    windowed = [layer for layer in facts.cache if layer.window]
    attending = [layer for layer in facts.cache if layer.kind != "state"]
    return ModelShape(
        layers=max(1, facts.layers),
        dense_parameters=dense_parameters,
        dense_bytes=_bytes(dense, width) if facts.parts else dense_parameters * plain,
        head_parameters=head,
        head_bytes=head * plain,
        attention_width=_attention_width(facts, attending),
        attention_layers=len(attending) if facts.cache else facts.layers,
        kv_heads=max(1, facts.kv_heads),
        kv_values=facts.kv_values_per_token - _values(windowed),
        windowed_kv_values=_values(windowed),
        window=max((layer.window for layer in windowed), default=0),
        state_values=facts.state_values,
        expert_parameters=expert_parameters,
        expert_bytes=_bytes(experts, width),
        expert_share=_expert_share(facts, expert_parameters),
    )


@cache
def known_configs() -> Mapping[str, Mapping[str, object]]:
    """Models whose measurements are public, by their names on the Hugging Face hub."""
    text = resources.files("pilotlight.recommender").joinpath("data/models.yaml").read_text()
    found: Mapping[str, Mapping[str, object]] = yaml.safe_load(text)
    return found


def _parameters(parts: Iterable[WeightPart]) -> int:
    return sum(part.parameters for part in parts)


def _bytes(parts: Iterable[WeightPart], width: int | None) -> float:
    return sum(part.parameters * width if width and part.dtype in STORED_NAMES else part.bytes for part in parts)


def _values(layers: Iterable[CacheLayer]) -> int:
    return sum(layer.heads * layer.values for layer in layers)


def _attention_width(facts: ModelFacts, attending: list[CacheLayer]) -> int:
    """Key and value of a head are as wide as its query; of a latent only the hidden size is known here."""
    head = next((layer.values // 2 for layer in attending if layer.kind != "latent"), 0)
    return facts.heads * head or (facts.hidden_size if facts.heads else 0)


def _expert_share(facts: ModelFacts, experts: int) -> float:
    if not experts:
        return 0.0
    idle = facts.parameters - facts.active_parameters if facts.active_parameters else 0
    return max(0.0, 1 - idle / experts)
