"""How much KV cache a replica gets, and so how long and how many its requests may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pilotlight.recommender._units import MIB, ceil_div, human
from pilotlight.recommender.cache import Pool
from pilotlight.recommender.errors import DoesNotFit

# Planned tokens per request where nothing was observed yet: a slot is worth a cache of this many tokens.
TYPICAL_TOKENS = 2048
# A context is lowered on the recommender's own account to this many tokens and no further; less is the user's decision.
SHORTEST_CONTEXT = 1024


@dataclass(frozen=True)
class Part:
    """A summand of the arithmetic that a refusal shows."""

    name: str
    bytes: int

    def __str__(self) -> str:
        return f"{self.name} {human(self.bytes)}"


@dataclass(frozen=True)
class KvDemand:
    """What is known before the cache is planned; bytes and tokens are per device."""

    pool: Pool
    context: int  # wanted
    context_given: bool  # by the manifest: never lowered
    slots: int  # at most
    slots_given: bool
    fixed: Sequence[Part]  # weights, engine, activations
    limit: int  # for fixed parts and cache together
    limit_name: str  # "resources.memory", "this machine's budget", ...
    fill: bool  # use the whole limit; False: only what the slots need
    cache_bytes: int | None = None  # the manifest's kvCacheMemoryBytes


@dataclass(frozen=True)
class KvPlan:
    """The outcome; `total` is fixed parts and cache."""

    context: int
    slots: int
    cache_bytes: int
    total: int
    reasons: tuple[str, ...]


def plan(demand: KvDemand) -> KvPlan:
    """Raises `DoesNotFit` when not even one request fits."""
    fixed = sum(part.bytes for part in demand.fixed)
    room = demand.limit - fixed
    if not demand.pool.groups:
        return _without_cache(demand, fixed, room)
    if demand.cache_bytes is not None:
        if demand.cache_bytes > room:
            raise _refusal(demand, demand.context, Part("KV cache of engine.kvCacheMemoryBytes", demand.cache_bytes))
        room = demand.cache_bytes
    context = _context(demand, room)
    cache = demand.cache_bytes if demand.cache_bytes is not None else min(room, _wanted(demand, context))
    slots = _slots(demand, context, cache)
    return KvPlan(context, slots, cache, fixed + cache, tuple(_reasons(demand, context, slots, cache)))


def _without_cache(demand: KvDemand, fixed: int, room: int) -> KvPlan:
    if room < 0:
        raise _refusal(demand, demand.context, None)
    reason = f"the model keeps no KV cache; up to {demand.slots} requests at once"
    return KvPlan(demand.context, demand.slots, 0, fixed, (reason,))


def _context(demand: KvDemand, room: int) -> int:
    affordable = demand.pool.longest(room, demand.context)
    if demand.context <= affordable:
        return demand.context
    if demand.context_given or affordable < min(demand.context, SHORTEST_CONTEXT):
        one = Part(f"KV cache for one request at {demand.context} tokens", demand.pool.request_bytes(demand.context))
        raise _refusal(demand, affordable, one)
    return affordable


def _wanted(demand: KvDemand, context: int) -> int:
    each = context if demand.fill else min(context, TYPICAL_TOKENS)
    blocks = demand.slots * demand.pool.request_blocks(each) + 1
    return max(demand.pool.request_bytes(context), blocks * demand.pool.block_bytes)


def _slots(demand: KvDemand, context: int, cache: int) -> int:
    if demand.slots_given:
        return demand.slots
    return max(1, min(demand.slots, demand.pool.sequences(cache, min(context, TYPICAL_TOKENS))))


def _refusal(demand: KvDemand, affordable: int, cache: Part | None) -> DoesNotFit:
    parts = [*demand.fixed, *([cache] if cache else [])]
    needed = sum(part.bytes for part in parts)
    sums = " + ".join(map(str, parts))
    advice = f"raise resources.memory to at least {ceil_div(needed, MIB)}Mi"
    if demand.limit_name != "resources.memory":
        advice = "take a smaller model or a larger machine"
    if cache and demand.cache_bytes is not None:
        advice = "lower engine.kvCacheMemoryBytes" if needed > demand.limit else "raise engine.kvCacheMemoryBytes"
    if 0 < affordable < demand.context:
        advice += f", or set engine.maxModelLen to at most {affordable}"
    message = f"{sums} = {human(needed)}, but {demand.limit_name} is {human(demand.limit)}; {advice}"
    return DoesNotFit(message, needed, demand.limit)


def _reasons(demand: KvDemand, context: int, slots: int, cache: int) -> list[str]:
    if context < demand.context:
        first = f"context {context} tokens instead of the model's {demand.context}: that is what the KV cache holds"
    elif demand.context_given:
        first = f"context {context} tokens: engine.maxModelLen"
    else:
        first = f"context {context} tokens: the model's own"
    whose = "engine.kvCacheMemoryBytes" if demand.cache_bytes is not None else f"within {demand.limit_name}"
    second = f"KV cache {human(cache)}, {whose}: {_contents(demand.pool, cache, context)}"
    at_once = f"{slots} request{'s' if slots > 1 else ''} at once"
    if demand.slots_given:
        third = f"{at_once}: engine.maxNumSeqs"
    else:
        third = f"{at_once}: at most {demand.slots}, and {min(context, TYPICAL_TOKENS)} tokens for each"
    return [first, second, third]


def _contents(pool: Pool, cache: int, context: int) -> str:
    """Of a cache that only grows with tokens, how many; else how many requests of the longest kind."""
    if all(group.layer.kind in ("full", "latent") for group in pool.groups):
        tokens = max(0, pool.blocks(cache) - 1) * pool.groups[0].block
        return f"{tokens} tokens of {human(pool.token_bytes)}"
    blocks = pool.request_blocks(context)
    return f"{pool.blocks(cache)} blocks of {human(pool.block_bytes)}, {blocks} for a request of {context} tokens"
