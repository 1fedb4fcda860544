"""How many replicas a revision should have: one pure function, with the reason.

Guard-rails, in the order in which they bind:
1. unknown demand never shrinks anything;
2. while starts are backing off after crashes, nothing is added to what is alive;
3. work in hand (queued or in flight) means at least one replica;
4. fewer replicas only after demand stayed lower for `shrink_seconds`, and then no fewer than that time's peak;
5. zero only after `keep_alive_seconds` without any work, counted from when there was something to idle: a start under
   way is finished, since whoever was refused because of it has been told when to come back;
6. the answer lies between minimum and maximum.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from pilotlight.detector.values import BackOff, Decision, Limits, Load, Reason, State


def decide(state: State, load: Load | None, limits: Limits, now: float) -> Decision:
    """The number of replicas for the next tick; `load` is None when it is not known."""
    desired, reason, sentence, after = _wanted(state, load, limits, now)
    wait = state.back_off.wait(now)
    if wait and desired > state.alive:
        desired, reason = state.alive, Reason.BACK_OFF
        sentence = f"{_crashes(state.back_off)}; the next start is due in {wait:.1f} s"
    inputs = _inputs(state, load, limits, now)
    return Decision(desired, reason, sentence, inputs, replace(after, desired=desired))


def needed(load: Load, limits: Limits) -> int:
    """Replicas that the work in hand fills, before any limit."""
    return ceil((load.queued + load.in_flight) / (limits.slots * limits.target))


def _wanted(state: State, load: Load | None, limits: Limits, now: float) -> tuple[int, Reason, str, State]:
    current = _clip(state.desired, limits)
    if load is None:
        kept = (
            "nothing changes" if current == state.desired else f"the bounds {limits.minimum} to {limits.maximum} hold"
        )
        return current, Reason.UNKNOWN, f"demand is not known; {kept}", _all_needed(state)
    work = load.queued + load.in_flight
    want = _clip(needed(load, limits), limits)
    if want >= current:
        reason, sentence = _explain(work, want, load, limits)
        return want, reason, sentence, _all_needed(state)
    if work == 0:
        return _idle(state, load, limits, now, current)
    return _shrink(state, limits, now, current, want)


def _idle(state: State, load: Load, limits: Limits, now: float, current: int) -> tuple[int, Reason, str, State]:
    """pre: no work in hand, and more replicas than the minimum."""
    idle = max(0.0, now - max(load.last_active, state.since, state.ready_at))
    if idle >= limits.keep_alive_seconds and not state.starting:
        sentence = f"idle for {idle:.0f} s, keep-alive is {limits.keep_alive_seconds:g} s"
        reason = Reason.IDLE_ZERO if limits.minimum == 0 else Reason.MINIMUM
        return limits.minimum, reason, sentence, _all_needed(state)
    floor = max(1, limits.minimum)
    if current > floor:
        return _shrink(state, limits, now, current, floor)
    counted = f"idle for {idle:.0f} s of {limits.keep_alive_seconds:g} s keep-alive"
    later = f"a start is under way; the keep-alive of {limits.keep_alive_seconds:g} s counts from its end"
    sentence = later if state.starting else counted
    return current, Reason.KEEP_ALIVE, sentence, _all_needed(state)


def _shrink(state: State, limits: Limits, now: float, current: int, want: int) -> tuple[int, Reason, str, State]:
    """pre: want < current."""
    since = now if state.surplus_since is None else state.surplus_since
    peak = want if state.surplus_since is None else max(want, state.surplus_peak)
    after = replace(state, surplus_since=since, surplus_peak=peak)
    waited = now - since
    if waited < limits.shrink_seconds:
        sentence = f"{want} would do, for {waited:.0f} s of the {limits.shrink_seconds:g} s that a shrink waits"
        return current, Reason.SHRINK_WAIT, sentence, after
    target = min(current, _clip(peak, limits))
    sentence = f"no more than {target} were needed for {waited:.0f} s"
    return target, Reason.SHRINK, sentence, _all_needed(state)


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


def _inputs(state: State, load: Load | None, limits: Limits, now: float) -> dict[str, float | int | bool | None]:
    """Everything that the decision rests on, so that it can be replayed."""
    return {
        "queued": load.queued if load else None,
        "in_flight": load.in_flight if load else None,
        "last_active": load.last_active if load else None,
        "now": now,
        "since": state.since,
        "desired": state.desired,
        "alive": state.alive,
        "starting": state.starting,
        "ready_at": state.ready_at,
        "surplus_since": state.surplus_since,
        "surplus_peak": state.surplus_peak,
        "failures": state.back_off.failures,
        "retry_at": state.back_off.retry_at,
        "served": state.back_off.served,
        "minimum": limits.minimum,
        "maximum": limits.maximum,
        "keep_alive_seconds": limits.keep_alive_seconds,
        "slots": limits.slots,
        "target": limits.target,
        "shrink_seconds": limits.shrink_seconds,
    }
