"""Does a model fit an accelerator, with which context, for how many sequences; and if not, what would.

The sums are vLLM 0.32's (v1/worker/gpu_worker.py): of the share of an accelerator's memory that it may use, weights,
the peak of one step, CUDA graphs and the driver's context come off; what is left is cut into blocks of KV cache.
On processors the engine's own processes come off instead of the latter two (`_cpu`).
Pure: accelerators come as values, and nothing is probed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from pilotlight.recommender._cpu import BATCHED_TOKENS, ENGINE_BYTES
from pilotlight.recommender._cpu import BLOCK_TOKENS as CPU_BLOCK_TOKENS
from pilotlight.recommender._gpu import (
    ASYNCHRONOUS,
    BLOCK_TOKENS,
    COLLECTIVE_BYTES,
    CONTEXT_BYTES,
    GRAPH_BYTES,
    UTILIZATION,
    usual_tokens,
)
from pilotlight.recommender._kv import SHORTEST_CONTEXT, Part
from pilotlight.recommender._pool import pool
from pilotlight.recommender._steps import activation_bytes
from pilotlight.recommender._units import ENGINE_WIDTHS, ceil_div, human
from pilotlight.recommender.cache import Pool
from pilotlight.recommender.errors import DoesNotFit, OptionRefused
from pilotlight.recommender.facts import ModelFacts
from pilotlight.recommender.lengths import Lengths, sequences
from pilotlight.recommender.lora import slots_bytes
from pilotlight.recommender.quantization import CACHE_FORMATS

PARALLEL = (1, 2, 4, 8)
"""Tensor-parallel sizes that are tried where none is given, and larger ones for what does not fit."""


class HasMemory(Protocol):
    """An accelerator as far as memory goes: a device of this machine, or a catalogue's entry."""

    @property
    def name(self) -> str: ...

    @property
    def memory_bytes(self) -> int: ...


@dataclass(frozen=True)
class MemoryRequest:
    """What is wanted of one replica."""

    ranks: int = 1
    """Tensor-parallel size: accelerators of one replica."""
    stages: int = 1
    """Pipeline-parallel size; the plan is that of the heaviest stage."""
    expert_ranks: int | None = None
    """Accelerators that experts are spread over, where they are more than those of one copy of the rest."""
    context: int | None = None
    """Longest request, tokens; None: the model's own."""
    dtype: str = "auto"
    kv_dtype: str = "auto"
    utilization: float = UTILIZATION
    """Share of an accelerator's memory that the engine may use."""
    step_tokens: int | None = None
    """`max_num_batched_tokens`; None: vLLM's own for this accelerator."""
    sequences: int = 256
    """`max_num_seqs`: bounds what a step computes, and the plan's own number of sequences."""
    lengths: Lengths | None = None
    """None: every request is as long as the context."""
    block: int | None = None
    """Tokens of a block; None: the engine's own."""
    graphs: bool = True
    adapters: int = 0
    """LoRA adapters at once."""
    adapter_rank: int = 16
    task: str = "generate"
    processors: bool = False
    """The engine runs on a machine's processors: 32-bit numbers where `dtype` is silent, and no accelerator's parts."""

    count: int | None = None
    """Accelerators that there are; a refusal advises no more of them. None: as many as it takes."""

    @property
    def accelerators(self) -> int:
        """Of one replica."""
        return self.ranks * self.stages


@dataclass(frozen=True)
class MemoryPlan:
    """A configuration that fits; bytes are of each accelerator."""

    accelerator: str
    request: MemoryRequest
    context: int
    parts: tuple[Part, ...]
    """Everything but the KV cache."""
    limit_bytes: int
    cache_bytes: int
    pool: Pool
    sequences: int
    """At once, at the lengths that were asked for."""

    @property
    def blocks(self) -> int:
        return self.pool.blocks(self.cache_bytes)

    @property
    def tokens(self) -> int:
        """As vLLM logs its KV cache size."""
        return self.pool.log_tokens(self.cache_bytes, self.context)

    @property
    def total_bytes(self) -> int:
        return sum(part.bytes for part in self.parts) + self.cache_bytes

    @property
    def weight_bytes(self) -> int:
        return next(part.bytes for part in self.parts if part.name == "weights")

    def __str__(self) -> str:
        sums = " + ".join(map(str, self.parts))
        return (
            f"{sums} + KV cache {human(self.cache_bytes)} = {human(self.total_bytes)} of {human(self.limit_bytes)}"
            f" on each of {self.request.accelerators} x {self.accelerator}: {self.blocks} blocks,"
            f" {self.sequences} sequences at once, context {self.context}"
        )


def plan_memory(
    model: ModelFacts, accelerator: HasMemory, request: MemoryRequest | None = None, others: Sequence[HasMemory] = ()
) -> MemoryPlan:
    """Plan one replica.

    Args:
        model: What is served.
        accelerator: Each of the replica's accelerators.
        request: What is wanted of it.
        others: Accelerators that a refusal may advise.

    Raises:
        DoesNotFit: With the arithmetic, and in `changes` each single change that was found to fit, nearest first.
        OptionRefused: The model cannot be split over so many accelerators or has not so long a context, or nobody
            knows the cache's format.
    """
    asked = request or MemoryRequest()
    _check(model, asked)
    plan = _fit(model, accelerator, asked)
    if plan is not None:
        return plan
    raise _refusal(model, accelerator, asked, others)


def _check(model: ModelFacts, request: MemoryRequest) -> None:
    if not _divides(model, request.ranks):
        raise OptionRefused(
            "resources.count",
            f"{request.ranks} accelerators cannot split the model's {model.heads} attention heads evenly",
        )
    if not 1 <= request.stages <= model.layers:
        raise OptionRefused(
            "resources.count", f"{request.stages} stages cannot share the model's {model.layers} layers"
        )
    if request.kv_dtype not in CACHE_FORMATS:
        raise OptionRefused(
            "engine.kvCacheDtype", f"kv_cache_dtype {request.kv_dtype!r} is none of {', '.join(CACHE_FORMATS)}"
        )
    if request.context is not None and request.context > model.context:
        raise OptionRefused(
            "engine.maxModelLen", f"a context of {request.context} tokens is more than the model's {model.context}"
        )


def _divides(model: ModelFacts, ranks: int) -> bool:
    kv_heads = model.kv_heads
    even = not kv_heads or kv_heads % ranks == 0 or ranks % kv_heads == 0
    return ranks >= 1 and model.heads % ranks == 0 and even


def _fit(model: ModelFacts, accelerator: HasMemory, request: MemoryRequest) -> MemoryPlan | None:
    parts, cache = fixed_parts(model, accelerator, request), pool_of(model, accelerator, request)
    limit = int(accelerator.memory_bytes * request.utilization)
    room = limit - sum(part.bytes for part in parts)
    context = request.context or model.context
    if room < cache.request_bytes(context):
        return None
    held = room if cache.groups else 0
    at_once = request.sequences
    if cache.groups:
        lengths = request.lengths or Lengths(((1.0, context),))
        at_once = min(at_once, sequences(cache, held, lengths, context))
    return MemoryPlan(accelerator.name, request, context, parts, limit, held, cache, at_once)


def fixed_parts(model: ModelFacts, accelerator: HasMemory, request: MemoryRequest) -> tuple[Part, ...]:
    """Everything on each accelerator but the KV cache."""
    width, step = engine_width(request), step_tokens(model, accelerator, request)
    weights = Part("weights", _weight_bytes(model, request, width))
    activations = Part("activations", activation_bytes(model, step, request.sequences, width))
    if request.processors:
        return (weights, Part("engine", ENGINE_BYTES), activations)
    shared = COLLECTIVE_BYTES if max(request.accelerators, request.expert_ranks or 1) > 1 else 0
    parts = [weights, Part("CUDA context", CONTEXT_BYTES + shared), activations]
    if request.graphs:
        parts.append(Part("graphs", GRAPH_BYTES))
    if request.adapters:
        held = slots_bytes(model, request.adapters, request.adapter_rank, width, request.ranks)
        parts.append(Part("adapters", held))
    return tuple(parts)


def resident(model: ModelFacts, accelerator: HasMemory, request: MemoryRequest, tokens: int) -> float:
    """Requests of `tokens` that the KV cache holds at once, as a fraction too; 0 where weights leave no room."""
    cache = pool_of(model, accelerator, request)
    if not cache.groups:
        return math.inf
    room = int(accelerator.memory_bytes * request.utilization)
    room -= sum(part.bytes for part in fixed_parts(model, accelerator, request))
    return max(0, cache.blocks(room) - 1) / cache.request_blocks(tokens)


def pool_of(model: ModelFacts, accelerator: HasMemory, request: MemoryRequest) -> Pool:
    """The pool of blocks on each accelerator."""
    in_flight = step_tokens(model, accelerator, request) * (1 if request.processors else ASYNCHRONOUS)
    block = request.block or (CPU_BLOCK_TOKENS if request.processors else BLOCK_TOKENS)
    options = {"kv_cache_dtype": request.kv_dtype}
    return pool(_stage(model, request), options, engine_width(request), block, in_flight, request.ranks)


def _stage(model: ModelFacts, request: MemoryRequest) -> ModelFacts:
    """The layers of one stage, the most that one has."""
    if request.stages == 1 or not model.cache:
        return model
    return replace(model, cache=model.cache[: ceil_div(len(model.cache), request.stages)])


def _weight_bytes(model: ModelFacts, request: MemoryRequest, width: int) -> int:
    return model.rank_weight_bytes(
        request.ranks,
        width,
        head=request.task != "embed",
        expert_ranks=request.expert_ranks,
        stages=request.stages,
    )


def engine_width(request: MemoryRequest) -> int:
    """Bytes of a plain number in the engine."""
    # vLLM runs float32 checkpoints at 16 bits on accelerators, and this product all of them at 32 bits on processors.
    return ENGINE_WIDTHS.get(request.dtype, 4 if request.processors else 2)


def step_tokens(model: ModelFacts, accelerator: HasMemory, request: MemoryRequest) -> int:
    """Tokens of one step: what is asked for or the engine's own, and at least one per sequence."""
    own = BATCHED_TOKENS if request.processors else usual_tokens(accelerator.memory_bytes)
    usual = request.step_tokens or own
    return max(usual, request.sequences, model.context if model.encoder else 0)


def _refusal(
    model: ModelFacts, accelerator: HasMemory, request: MemoryRequest, others: Sequence[HasMemory]
) -> DoesNotFit:
    context = request.context or model.context
    cache = pool_of(model, accelerator, request).request_bytes(context)
    parts = [*fixed_parts(model, accelerator, request)]
    if cache:
        parts.append(Part(f"KV cache for one request at {context} tokens", cache))
    needed, limit = sum(part.bytes for part in parts), int(accelerator.memory_bytes * request.utilization)
    changes = tuple(_changes(model, accelerator, request, others))
    if not changes and (both := _together(model, accelerator, request, others)):
        changes = (both,)
    advice = "; or ".join(changes) or "take a smaller model or a larger accelerator"
    share = f"{request.utilization:.0%} of {request.accelerators} x {accelerator.name}"
    sums = " + ".join(map(str, parts))
    message = f"{sums} = {human(needed)} on each, but {share} is {human(limit)}; {advice}"
    return DoesNotFit(message, needed, limit, changes)


def _changes(
    model: ModelFacts, accelerator: HasMemory, request: MemoryRequest, others: Sequence[HasMemory]
) -> Iterator[str]:
    """Each change alone that was found to fit: the smallest first."""
    context = request.context or model.context
    room = int(accelerator.memory_bytes * request.utilization) - sum(
        part.bytes for part in fixed_parts(model, accelerator, request)
    )
    shorter = pool_of(model, accelerator, request).longest(room, context)
    if shorter >= min(context, SHORTEST_CONTEXT):
        yield f"lower the context to {shorter} tokens"
    if request.processors:
        return
    if request.kv_dtype == "auto" and _fit(model, accelerator, replace(request, kv_dtype="fp8")):
        yield "store the KV cache as fp8"
    for ranks in _wider(model, request, request.count):
        if _fit(model, accelerator, replace(request, ranks=ranks)):
            yield f"split the model over {ranks} x {accelerator.name}"
            break
    larger = sorted((other for other in others if _fit(model, other, request)), key=lambda other: other.memory_bytes)
    if larger:
        yield f"take {request.accelerators} x {larger[0].name}"


def _together(
    model: ModelFacts, accelerator: HasMemory, request: MemoryRequest, others: Sequence[HasMemory]
) -> str | None:
    """More and larger accelerators at once, for a model that no single change helps: the least memory in sum."""
    if request.processors:
        return None
    counts = [(accelerator, request.count), *((other, None) for other in others)]
    sizes = [(other, ranks) for other, count in counts for ranks in _wider(model, request, count)]
    pairs = [(ranks * other.memory_bytes, ranks, other) for other, ranks in sizes]
    for _, ranks, other in sorted(pairs, key=lambda pair: pair[:2]):
        if _fit(model, other, replace(request, ranks=ranks)):
            return f"split the model over {ranks} x {other.name}"
    return None


def _wider(model: ModelFacts, request: MemoryRequest, count: int | None) -> list[int]:
    """Larger tensor-parallel sizes, of `count` accelerators."""
    sizes = [ranks for ranks in PARALLEL if ranks > request.ranks and _divides(model, ranks)]
    return [ranks for ranks in sizes if count is None or ranks * request.stages <= count]
