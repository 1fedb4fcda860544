"""How many requests a replica should have in flight just now, so that its latencies stay within its promise. Pure.

Numbered policy, the first that applies:
1. during an incident (starts backing off, replicas failing) nothing changes;
2. without a new observation nothing changes; without a bound the engine's own limit holds;
3. a bound that even one request alone surely breaks, in two observations in a row, is given up: no cap holds it; after
   the first of them a cap may be cut, and otherwise stays;
4. a bound that was broken in two observations in a row cuts the cap: to where the learned curve, scaled to what was
   just measured, holds it again; without a curve, in proportion;
5. a cap that is not used up, and at which the learned curve surely breaks a bound, falls to where the curve expects to
   hold it, but not below what is in flight;
6. a cap that is used, below where the curve surely holds every bound, rises to there, at most by half at a time;
7. else it stays.
Rule 4 rests on measurements alone, so that a curve that is wrong cannot keep a bound broken; 5 and 6 go no farther than
measurements are near, for the same reason. Where a bound depends on prompts, the usual of the last few observations
counts, so that one long prompt changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import ceil, floor
from statistics import median_low

from pilotlight.recommender._bounds import HEADROOM, Bound, bounds_of, interval, milliseconds
from pilotlight.recommender.learning import learned, pooled
from pilotlight.recommender.performance import Observation, Performance, moved
from pilotlight.recommender.workload import Slo

PATIENCE = 2
"""Observations in a row that break a bound before the cap is cut, or show it out of reach before it is given up."""
PROMPTS = 3
"""Observations whose median is the usual prompt: one that is unlike the others does not move it."""
LEAST_KEPT = 0.5
"""Of the requests in flight, what one cut leaves at least; less where the latency is more than twice what is promised:
it cannot fall by more than in proportion."""
STILL_SETTLED = 1.1
"""More in flight than this share of the cap runs since before a cut, and says nothing of it yet."""
USED = 0.7
"""Share of a cap in flight from which on it is used: only then a higher one is of any use, and soon measured."""
MOST_GROWTH = 1.5
"""Factor by which one decision may raise a cap."""


class CapReason(StrEnum):
    """Why a cap is what it is."""

    KEPT = "kept"
    INCIDENT = "incident"
    UNREACHABLE = "slo_unreachable"
    BROKEN = "slo_broken"
    LOWERED = "cap_lowered"
    RAISED = "cap_raised"


@dataclass(frozen=True)
class CapState:
    """What is carried from one decision to the next."""

    cap: int
    """Requests in flight per replica."""
    broken: int = 0
    """Observations in a row that broke a bound."""
    beyond: Mapping[str, int] = field(default_factory=dict)
    """By bound, observations in a row at which even one request alone surely broke it."""
    prompts: tuple[float, ...] = ()
    """Mean tokens of prompts, of the last `PROMPTS` observations that had any."""

    @property
    def prompt(self) -> float:
        """Tokens of a usual prompt; 0: unknown."""
        return median_low(self.prompts) if self.prompts else 0.0


@dataclass(frozen=True)
class CapDecision:
    """The state from here on, and why; with all that it rests on, so that it can be replayed."""

    state: CapState
    reason: CapReason
    sentence: str
    inputs: Mapping[str, float | int | str | None] = field(default_factory=dict)


def follow(
    state: CapState,
    performance: Performance | None,
    seen: Sequence[Observation],
    slo: Slo,
    most: int,
    *,
    incident: bool = False,
) -> tuple[CapDecision, Performance | None]:
    """Learn from what a revision's replicas have just shown, and decide; arguments as of `decide_cap`.

    A cut that measurements alone have called for means that the machine has changed: what is learned moves with it.
    """
    for observation in seen:
        performance = learned(performance, observation)
    decision = decide_cap(state, performance, pooled(seen) if seen else None, slo, most, incident=incident)
    if decision.reason is CapReason.BROKEN and performance is not None:
        performance = moved(performance)
    return decision, performance


def decide_cap(
    state: CapState,
    performance: Performance | None,
    seen: Observation | None,
    slo: Slo,
    most: int,
    *,
    incident: bool = False,
) -> CapDecision:
    """The cap of one revision's replicas after one more observation.

    Args:
        state: Of the last decision; at first `CapState(most)`.
        performance: What is learned, the observation already in it; None: nothing yet.
        seen: The observation, pooled over the revision's replicas; None: there is none.
        slo: What its class promises.
        most: The engine's own limit (`max_num_seqs`).
        incident: Starts are backing off, or replicas fail.
    """
    state = replace(state, cap=max(1, min(state.cap, most)))
    if incident:
        return _kept(state, CapReason.INCIDENT, "starts fail or replicas die; nothing is changed meanwhile")
    if slo.itl is None and slo.ttft is None:
        return _kept(replace(state, cap=most), CapReason.KEPT, "nothing is promised, so the engine's own limit holds")
    if seen is None:
        return _kept(state, CapReason.KEPT, "there is no new observation")
    if seen.prompt:
        state = replace(state, prompts=(*state.prompts, seen.prompt)[-PROMPTS:])
    bounds = list(bounds_of(slo, performance, state.prompt, seen))
    beyond = {bound.name: state.beyond.get(bound.name, 0) + 1 for bound in bounds if bound.surely_breaks(1)}
    reachable = [bound for bound in bounds if beyond.get(bound.name, 0) < PATIENCE]
    state = replace(state, beyond=beyond)
    if seen.batch <= state.cap * STILL_SETTLED + 1:
        state = replace(state, broken=state.broken + 1 if any(bound.broken for bound in reachable) else 0)
    cap, reason, sentence = _change(state, bounds, reachable, seen, most)
    inputs = _inputs(state, bounds, seen, slo, most)
    return CapDecision(replace(state, cap=cap, broken=0 if cap < state.cap else state.broken), reason, sentence, inputs)


Change = tuple[int, CapReason, str]


def _change(state: CapState, bounds: list[Bound], reachable: list[Bound], seen: Observation, most: int) -> Change:
    if any(count < PATIENCE for count in state.beyond.values()):
        return _cut_down(state, reachable, seen) or _doubtful(state, bounds)
    return _changed(state, reachable, seen, most) if reachable else _unreachable(state, bounds, most)


def _changed(state: CapState, bounds: list[Bound], seen: Observation, most: int) -> Change:
    known = [bound for bound in bounds if bound.curve is not None]
    stays = state.cap, CapReason.KEPT, f"cap {state.cap} is right as far as is known"
    if change := _cut_down(state, bounds, seen):
        return change
    return _lowered(state.cap, known, seen) or _raised(state, known, seen, most) or stays


def _cut_down(state: CapState, bounds: list[Bound], seen: Observation) -> Change | None:
    """Rule 4."""
    broken = [bound for bound in bounds if bound.broken]
    if state.broken < PATIENCE or not broken or (cap := _cut(state.cap, broken, seen)) >= state.cap:
        return None
    worst = max(broken, key=lambda bound: (bound.measured or 0.0) / bound.seconds)
    said = f"{worst.name} was {milliseconds(worst.measured)} at {seen.batch:.1f} in flight"
    return cap, CapReason.BROKEN, f"{said}, {worst.promise}; cap {state.cap} -> {cap}"


def _lowered(before: int, known: list[Bound], seen: Observation) -> Change | None:
    """Rule 5."""
    if seen.batch >= before or not any(bound.surely_breaks(before) for bound in known):
        return None
    cap = max(1, ceil(seen.batch), min(bound.within(before, "value") for bound in known))
    if cap >= before:
        return None
    worst = max(known, key=lambda bound: bound.at(before).low / bound.seconds)
    said = f"{worst.name} at {before} in flight is {interval(worst.at(before))}, {worst.promise}"
    return cap, CapReason.LOWERED, f"{said}; cap {before} -> {cap}"


def _raised(state: CapState, known: list[Bound], seen: Observation, most: int) -> Change | None:
    """Rule 6."""
    if state.broken or not known or seen.batch < USED * state.cap:
        return None
    safe = min(bound.within(most, "high") for bound in known)
    cap = min(safe, ceil(state.cap * MOST_GROWTH), most)
    if cap <= state.cap:
        return None
    said = ", ".join(f"{bound.name} {interval(bound.at(cap))}" for bound in known)
    return cap, CapReason.RAISED, f"{cap} in flight hold every bound: {said}; cap {state.cap} -> {cap}"


def _cut(cap: int, broken: list[Bound], seen: Observation) -> int:
    """What is in flight counts, where it is less than the cap."""
    batch = min(float(cap), seen.batch)
    wanted = min(_holding(bound, batch) for bound in broken)
    kept = min(LEAST_KEPT, *(_proportion(bound) for bound in broken))
    return max(1, floor(max(kept * batch, min(wanted, batch - 1))))


def _proportion(bound: Bound) -> float:
    """Share of the load that holds a bound which was broken, if the latency is in proportion to the load."""
    assert bound.measured is not None
    return HEADROOM * bound.seconds / bound.measured


def _holding(bound: Bound, batch: float) -> float:
    """Requests in flight at which the bound is held again, by the curve's shape at the height just measured."""
    assert bound.measured is not None
    if bound.curve is None:
        return batch * _proportion(bound)
    scale = bound.measured / bound.curve.at(batch * bound.measured_unit).value
    return bound.within(max(1, floor(batch)), "value", scale)


def _doubtful(state: CapState, bounds: list[Bound]) -> Change:
    said = ", ".join(bound.name for bound in bounds if bound.name in state.beyond)
    return state.cap, CapReason.KEPT, f"{said} may be out of reach, which one more observation has to show"


def _unreachable(state: CapState, bounds: list[Bound], most: int) -> Change:
    said = ", ".join(f"{bound.name} of {milliseconds(bound.seconds)}" for bound in bounds)
    sentence = f"{said} is out of reach for prompts of {state.prompt:.0f} tokens even with one request in flight"
    return most, CapReason.UNREACHABLE, f"{sentence}; no cap helps, so the engine's own limit holds"


def _inputs(
    state: CapState, bounds: list[Bound], seen: Observation, slo: Slo, most: int
) -> dict[str, float | int | str | None]:
    known = {bound.name.lower(): bound.at(state.cap) for bound in bounds if bound.curve is not None}
    learned = {f"learned_{name}_low": estimate.low for name, estimate in known.items()}
    learned |= {f"learned_{name}_high": estimate.high for name, estimate in known.items()}
    return {
        "cap": state.cap,
        "most": most,
        "broken": state.broken,
        "in_flight": seen.batch,
        "prompt_tokens": state.prompt,
        "itl_seconds": seen.itl,
        "ttft_seconds": seen.ttft,
        "itl_bound_seconds": slo.itl,
        "ttft_bound_seconds": slo.ttft,
        **learned,
    }


def _kept(state: CapState, reason: CapReason, sentence: str) -> CapDecision:
    return CapDecision(state, reason, sentence)
