"""LoRA adapters: what one is, and what the engine keeps for those it may serve.

vLLM 0.32 allocates both matrices of every linear layer for `max_loras` adapters of `max_lora_rank` when it starts
(lora/layers), whichever adapters come: rank * (inputs + outputs) values for each layer and slot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pilotlight.recommender._config import need
from pilotlight.recommender._parts import Tensor
from pilotlight.recommender._units import FLOAT_WIDTHS, ceil_div
from pilotlight.recommender.errors import BadConfig
from pilotlight.recommender.facts import ModelFacts


@dataclass(frozen=True)
class AdapterFacts:
    """One adapter as stored."""

    rank: int
    parameters: int
    bytes: int


def read_adapter(config: Mapping[str, object], tensors: Mapping[str, Tensor]) -> AdapterFacts:
    """Facts of an adapter.

    Args:
        config: `adapter_config.json`.
        tensors: Every tensor of `adapter_model.safetensors` by name.

    Raises:
        BadConfig: No rank, no adapter's matrices, or matrices of a higher rank than the configuration's.
    """
    rank = need(config, "r")
    down = {name: tensor.shape for name, tensor in tensors.items() if "lora_A" in name or "lora_embedding_A" in name}
    if not down:
        raise BadConfig("adapter_model.safetensors", "no matrix lora_A is among the tensors: this is no LoRA adapter")
    highest = max(min(shape, default=0) for shape in down.values())
    if highest > rank:
        raise BadConfig("r", f"adapter_config.json: r is {rank}, but a matrix has rank {highest}")
    parameters = sum(tensor.bytes // FLOAT_WIDTHS.get(tensor.dtype, 1) for tensor in tensors.values())
    return AdapterFacts(rank, parameters, sum(tensor.bytes for tensor in tensors.values()))


def slots_bytes(model: ModelFacts, adapters: int, rank: int, width: int, ranks: int = 1) -> int:
    """Engine's memory for so many adapters at once, on each of `ranks`, bytes.

    Counts attention and the dense feed-forward part of every layer; of a mixture of experts neither is known here, so
    its experts count as one dense part.
    """
    attending = next((layer for layer in model.cache if layer.kind in ("full", "sliding", "chunked")), None)
    head = attending.values // 2 if attending else 0
    query, kept = model.heads * head, model.kv_heads * head
    hidden, inner = model.hidden_size, model.intermediate_size
    whole = 3 * hidden + 2 * hidden  # inputs of query, key, value, gate and up: on every rank
    split = 2 * query + 2 * kept + 3 * inner
    copied = 2 * hidden  # outputs of the output and down projections
    values = model.layers * rank * (whole + copied + ceil_div(split, ranks))
    return adapters * values * width
