"""How many replicas a revision should have: one pure function, with the reason.

Guard-rails, in the order in which they bind:
1. unknown demand never shrinks anything; counts that cannot be true are unknown;
2. while starts are backing off after crashes, nothing is added to what is alive;
3. the answer lies between minimum and maximum;
4. work in hand (queued or in flight) means at least one replica;
5. no more replicas come or go than the rate of change allows;
6. a verdict of trouble adds one and lets none go but one that was replaced, as long as its credit lasts: `trouble`;
7. fewer replicas only after demand stayed lower for `shrink_seconds` (a verdict of underload allows a share of them),
   and then no fewer than that time's peak;
8. zero only after `keep_alive_seconds` without any work, counted from when there was something to idle: a start under
   way is finished, since whoever was refused because of it has been told when to come back.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil, sqrt

from pilotlight.detector import pacing, trouble
from pilotlight.detector.record import inputs
from pilotlight.detector.values import BackOff, Decision, Health, Limits, Load, Reason, State


def decide(state: State, load: Load | None, limits: Limits, now: float, health: Health | None = None) -> Decision:
    """The number of replicas for the next tick.

    Args:
        state: From the decision before, with what was observed since.
        load: None: it is not known.
        limits: The function's.
        now: Unix time.
        health: The detector's verdict; None: there is none.
    """
    load = load if load and load.known else None
    demand, reason, sentence, after = _wanted(state, load, limits, now, patience_seconds(limits, health))
    credit, allowed = trouble.credit(state, limits, now), pacing.changes(state, limits, now)
    may_go = allowed is None or allowed >= 1
    raised = 0
    if load is None:  # what a verdict has raised is not let go on unknown metrics either
        raised = max(0, min(state.desired, limits.maximum) - demand)
    elif health is not None:
        raised, because, told = trouble.added(state, demand, limits, health, credit, may_go)
        reason, sentence = (because, told) if told else (reason, sentence)
    desired = demand + raised
    if (paced := _paced(state, load, desired, limits, allowed)) != desired:
        sentence = f"{sentence}; {limits.changes_per_minute:g} changes a minute allow {paced} for now"
        desired, reason = paced, Reason.RATE
    wait = state.back_off.wait(now)
    if wait and desired > state.alive:
        desired, reason = state.alive, Reason.BACK_OFF
        sentence = f"{_crashes(state.back_off)}; the next start is due in {wait:.1f} s"
    if allowed is not None:
        allowed -= abs(desired - state.desired)
    raised = min(raised, max(0, desired - demand))
    after = replace(after, desired=desired, decided_at=now, raised=raised, credit=credit, changes=allowed)
    after = replace(after, replacing_since=trouble.replacing_since(state, limits, reason, raised, now))
    return Decision(desired, reason, sentence, inputs(state, load, limits, now, health), after)


def needed(load: Load, limits: Limits) -> int:
    """Replicas that the work in hand asks for, before any limit: with its headroom, and so that enough are not full."""
    work = load.queued + load.in_flight
    roomy = ceil((work + limits.headroom * sqrt(work)) / (limits.slots * limits.target))
    return max(roomy, ceil(ceil(work / limits.slots) / limits.busy_share))


_Wanted = tuple[int, Reason, str, State]
"""Replicas, why, and the state after."""


def _wanted(state: State, load: Load | None, limits: Limits, now: float, patience: float) -> _Wanted:
    """What demand alone asks for, within the limits."""
    asked = state.desired - state.raised
    current = _clip(asked, limits)
    if load is None:
        kept = "nothing changes" if current == asked else f"the bounds {limits.minimum} to {limits.maximum} hold"
        return current, Reason.UNKNOWN, f"demand is not known; {kept}", _all_needed(state)
    work = load.queued + load.in_flight
    want = _clip(needed(load, limits), limits)
    if want >= current:
        reason, sentence = _explain(work, want, load, limits)
        return want, reason, sentence, _all_needed(state)
    if work == 0:
        return _idle(state, load, limits, now, patience, current)
    return _shrink(state, limits, now, patience, current, want)


def _idle(state: State, load: Load, limits: Limits, now: float, patience: float, current: int) -> _Wanted:
    """pre: no work in hand, and more replicas than the minimum."""
    idle = max(0.0, now - max(load.last_active, state.since, state.ready_at))
    if idle >= limits.keep_alive_seconds and not state.starting:
        sentence = f"idle for {idle:.0f} s, keep-alive is {limits.keep_alive_seconds:g} s"
        reason = Reason.IDLE_ZERO if limits.minimum == 0 else Reason.MINIMUM
        return limits.minimum, reason, sentence, _all_needed(state)
    floor = max(1, limits.minimum)
    if current > floor:
        return _shrink(state, limits, now, patience, current, floor)
    counted = f"idle for {idle:.0f} s of {limits.keep_alive_seconds:g} s keep-alive"
    later = f"a start is under way; the keep-alive of {limits.keep_alive_seconds:g} s counts from its end"
    sentence = later if state.starting else counted
    return current, Reason.KEEP_ALIVE, sentence, _all_needed(state)


def _shrink(state: State, limits: Limits, now: float, patience: float, current: int, want: int) -> _Wanted:
    """pre: want < current."""
    since = now if state.surplus_since is None else state.surplus_since
    peak = want if state.surplus_since is None else max(want, state.surplus_peak)
    after = replace(state, surplus_since=since, surplus_peak=peak)
    waited = now - since
    if waited < patience:
        sentence = f"{want} would do, for {waited:.0f} s of the {patience:g} s that a shrink waits"
        return current, Reason.SHRINK_WAIT, sentence, after
    target = min(current, _clip(peak, limits))
    sentence = f"no more than {target} were needed for {waited:.0f} s"
    return target, Reason.SHRINK, sentence, _all_needed(state)


def patience_seconds(limits: Limits, health: Health | None = None) -> float:
    """How long demand must have stayed lower: what a replica needs to come back is not gained by letting it go."""
    share = limits.underload_patience if health is Health.UNDERLOAD else 1.0
    return max(share * limits.shrink_seconds, limits.lead_seconds)


def _paced(state: State, load: Load | None, wanted: int, limits: Limits, allowed: float | None) -> int:
    """The bounds, and one replica for work in hand, wait for nothing."""
    if allowed is None:
        return wanted
    working = load is not None and load.queued + load.in_flight > 0
    least = min(limits.maximum, max(limits.minimum, int(working)))
    return min(max(pacing.paced(state.desired, wanted, allowed), least), limits.maximum)


def _explain(work: int, want: int, load: Load, limits: Limits) -> tuple[Reason, str]:
    raw = needed(load, limits)
    if work == 0:
        return (Reason.MINIMUM, f"minimum is {limits.minimum}") if want else (Reason.IDLE, "nothing to do")
    text = f"{load.queued} queued and {load.in_flight} in flight at {limits.slots} slots each"
    if raw > limits.maximum:
        return Reason.MAXIMUM, f"{text} ask for {raw}, maximum is {limits.maximum}"
    if raw < limits.minimum:
        return Reason.MINIMUM, f"{text} ask for {raw}, minimum is {limits.minimum}"
    return Reason.DEMAND, f"{text} ask for {raw}"


def _crashes(back_off: BackOff) -> str:
    last = "a replica died while serving" if back_off.served else "a start failed"
    if back_off.failures == 1:
        return last
    return f"{last}, failure {back_off.failures} in a row"


def _clip(count: int, limits: Limits) -> int:
    return min(max(count, limits.minimum), limits.maximum)


def _all_needed(state: State) -> State:
    return replace(state, surplus_since=None, surplus_peak=0)
