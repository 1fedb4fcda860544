"""Laws of the scale policy that hold for any stream of observations and verdicts, however wrong they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.detector.policy import decide, needed
from pilotlight.detector.replay import ReplayError, replay
from pilotlight.detector.values import BackOff, Decision, Health, Limits, Load, Reason, State

NOW = 1_000_000.0


@dataclass(frozen=True)
class Tick:
    """What one decision is given."""

    seconds: float
    """Since the last one; the clock may go back."""
    load: Load | None
    health: Health | None
    ready: bool = True
    """All that is to be there is ready, the newest since now."""


counts = st.one_of(st.integers(0, 60), st.integers(-5, 10**9))
broken = st.sampled_from([nan, inf, -inf])
loads = st.one_of(
    st.none(),
    st.builds(Load, counts, counts, st.floats(allow_nan=True)),
    # Metrics are no more typed than whoever sends them.
    st.builds(lambda queued: Load(queued, 0, NOW), broken),
)
ticks = st.lists(
    st.builds(Tick, st.floats(-100, 400), loads, st.none() | st.sampled_from(list(Health)), st.booleans()),
    min_size=1,
    max_size=30,
)
limits_ = st.builds(
    lambda low, more, keep, shrink, headroom, busy, lead, rate, share, replaces, patience: Limits(
        low,
        low + more,
        keep,
        slots=4,
        shrink_seconds=shrink,
        headroom=headroom,
        busy_share=busy,
        lead_seconds=lead,
        changes_per_minute=rate,
        trouble_share=share,
        replace_degraded=replaces,
        underload_patience=patience,
    ),
    st.integers(0, 3),
    st.integers(1, 20),
    st.floats(0, 500),
    st.floats(0, 200),
    st.floats(0, 3),
    st.just(1.0) | st.floats(0.1, 1),
    st.floats(0, 200),
    st.none() | st.floats(0.1, 30),
    st.floats(0, 1),
    st.booleans(),
    st.floats(0, 1),
)


cries = st.sampled_from([Health.DEGRADED] * 3 + [Health.UNDERLOAD, Health.UNDERLOAD, Health.NORMAL, None])
sober_ticks = st.lists(
    st.builds(Tick, st.floats(1, 60), st.builds(Load, st.integers(0, 2), st.integers(0, 12), st.just(NOW)), cries),
    min_size=20,
    max_size=40,
).map(lambda stream: [replace(tick, ready=place % 3 > 0) for place, tick in enumerate(stream)])
"""Streams as they may really be, in which verdicts get their way."""
sober_limits = st.builds(
    lambda limits, shrink, lead: replace(
        limits, maximum=8, shrink_seconds=shrink, lead_seconds=lead, trouble_share=1.0, changes_per_minute=None
    ),
    limits_,
    st.floats(0, 40),
    st.floats(0, 20),
)
both = given(st.one_of(ticks, sober_ticks), st.one_of(limits_, sober_limits))


def run(stream: Sequence[Tick], limits: Limits) -> list[tuple[float, Decision]]:
    """The decisions, each with its time; what is decided is there at once."""
    now, state, decisions = NOW, State(since=NOW), []
    for tick in stream:
        now += tick.seconds
        seen = replace(state, alive=state.desired, starting=0 if tick.ready else state.desired)
        seen = replace(seen, ready_at=now if tick.ready else state.ready_at)
        decision = decide(seen, tick.load, limits, now, tick.health)
        decisions.append((now, decision))
        state = decision.state
    return decisions


@given(ticks, limits_)
def test_work_that_waits_has_a_replica_at_once(stream: list[Tick], limits: Limits) -> None:
    for tick, (_, decision) in zip(stream, run(stream, limits), strict=True):
        if tick.load is not None and tick.load.known and tick.load.queued > 0:
            assert decision.desired >= 1


@given(ticks, limits_)
def test_never_above_the_maximum_nor_below_the_minimum(stream: list[Tick], limits: Limits) -> None:
    for _, decision in run(stream, limits):
        assert limits.minimum <= decision.desired <= limits.maximum


@given(ticks, limits_)
def test_unknown_metrics_take_nothing_away(stream: list[Tick], limits: Limits) -> None:
    before = 0
    for tick, (_, decision) in zip(stream, run(stream, limits), strict=True):
        if tick.load is None or not tick.load.known:
            assert decision.desired >= before
        before = decision.desired


@given(ticks, limits_)
def test_replicas_come_and_go_no_faster_than_allowed(stream: list[Tick], limits: Limits) -> None:
    rate = limits.changes_per_minute
    decisions = run(stream, limits)
    # A clock that goes back earns nothing, and what it is set forward again counts as time.
    for first in range(len(decisions)):
        forward = sum(max(0.0, tick.seconds) for tick in stream[first + 1 :])
        changed = sum(abs(b.desired - a.desired) for (_, a), (_, b) in pairwise(decisions[first:]))
        # Work that waits, and the minimum, get what they need at once.
        forced = sum(
            b.desired == max(1, limits.minimum) and a.desired < b.desired for (_, a), (_, b) in pairwise(decisions)
        ) * max(1, limits.minimum)
        if rate is not None:
            assert changed <= max(1, rate) + rate * forward / 60 + forced + 1e-6


@given(
    st.lists(st.tuples(st.floats(0, 50), st.integers(0, 40)), min_size=1, max_size=60),
    limits_,
    st.sampled_from([Health.OVERLOAD, Health.DEGRADED]),
)
def test_a_detector_that_always_cries_trouble_costs_its_share(
    stream: list[tuple[float, int]], limits: Limits, cry: Health
) -> None:
    limits = replace(limits, changes_per_minute=None)
    now, state, demanded, raised, longest = NOW, State(since=NOW), 0.0, 0.0, 0.0
    for seconds, work in stream:
        now += seconds
        demanded += seconds * (state.desired - state.raised)
        raised += seconds * state.raised
        longest = max(longest, seconds * state.raised)
        seen = replace(state, alive=state.desired, ready_at=now)
        state = decide(seen, Load(work, 0, now), limits, now, cry).state

    assert raised <= limits.trouble_share * demanded + longest + 1e-6


@both
def test_nothing_is_replaced_before_something_has_come_for_it(stream: list[Tick], limits: Limits) -> None:
    before = State(since=NOW)
    for tick, (_, decision) in zip(stream, run(stream, limits), strict=True):
        if decision.reason is Reason.REPLACE:
            assert (limits.replace_degraded, tick.ready, tick.health) == (True, True, Health.DEGRADED)
            assert before.replacing_since is not None
            assert before.raised > 0
            assert 1 <= decision.desired < before.desired
            assert decision.state.replacing_since is None
        before = decision.state


@both
def test_underload_takes_nothing_that_the_work_in_hand_needs_nor_sooner_than_it_may(
    stream: list[Tick], limits: Limits
) -> None:
    stream = [replace(tick, health=Health.UNDERLOAD) for tick in stream]
    for tick, (now, decision) in zip(stream, run(stream, limits), strict=True):
        if decision.reason is not Reason.SHRINK:
            continue
        since, load = decision.inputs["surplus_since"], tick.load
        waited = now - since if isinstance(since, float) else 0.0
        assert waited >= max(limits.underload_patience * limits.shrink_seconds, limits.lead_seconds)
        assert load is not None
        assert decision.desired >= min(needed(load, limits), limits.maximum)


@both
def test_underload_and_degraded_change_nothing_more_unless_they_are_asked_to(
    stream: list[Tick], limits: Limits
) -> None:
    plain = replace(limits, replace_degraded=False, underload_patience=1.0)
    calm = [replace(tick, health=Health.NORMAL if tick.health is Health.UNDERLOAD else tick.health) for tick in stream]
    told = [(decision.desired, decision.sentence, decision.state) for _, decision in run(stream, plain)]

    assert told == [(decision.desired, decision.sentence, decision.state) for _, decision in run(calm, plain)]
    assert all(state.replacing_since is None for *_, state in told)


@both
def test_every_decision_of_a_stream_replays_from_its_record(stream: list[Tick], limits: Limits) -> None:
    for _, decision in run(stream, limits):
        if not (decision.inputs["last_active"] is None or abs(float(decision.inputs["last_active"])) < inf):
            continue  # JSON has no such numbers
        assert replay(json.loads(json.dumps(dict(decision.inputs)))) == decision


@given(st.integers(0, 1000), st.floats(0, 3))
def test_headroom_asks_for_more_and_never_for_less(work: int, headroom: float) -> None:
    limits = Limits(maximum=10_000, slots=4)
    plain = decide(State(since=0), Load(work, 0, NOW), limits, NOW).desired
    roomy = decide(State(since=0), Load(work, 0, NOW), replace(limits, headroom=headroom), NOW).desired

    assert plain <= roomy <= ceil((work + headroom * work**0.5) / 4 + 1e-9)


@given(st.integers(0, 1000), st.floats(0.1, 1), st.floats(0.1, 1))
def test_no_more_than_their_share_of_the_replicas_is_full(work: int, target: float, share: float) -> None:
    plain = Limits(maximum=100_000, slots=4, target=target)
    pressed = decide(State(since=0), Load(work, 0, NOW), replace(plain, busy_share=share), NOW).desired

    assert ceil(work / 4) <= pressed * share + 1e-9
    assert pressed >= decide(State(since=0), Load(work, 0, NOW), plain, NOW).desired
    assert needed(Load(work, 0, NOW), replace(plain, busy_share=1.0)) == ceil(work / (4 * target))


def after(seconds: float, desired: int = 1, **more: float) -> State:
    """The state `seconds` after a decision for `desired` replicas."""
    return State(since=0, desired=desired, alive=desired, decided_at=NOW - seconds, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "load", "health", "desired", "reason"),
    [
        pytest.param(after(1, credit=61), Load(0, 2, NOW), Health.OVERLOAD, 2, Reason.OVERLOAD, id="overload raises"),
        pytest.param(after(1, credit=61), Load(0, 2, NOW), Health.DEGRADED, 2, Reason.DEGRADED, id="degraded raises"),
        pytest.param(after(1, credit=9), Load(0, 2, NOW), Health.OVERLOAD, 1, Reason.DEMAND, id="not without credit"),
        pytest.param(
            after(1, credit=61), Load(0, 2, NOW), Health.NORMAL, 1, Reason.DEMAND, id="normal changes nothing"
        ),
        pytest.param(after(1, credit=9), Load(0, 0, 1.0), Health.DEGRADED, 1, Reason.VETO, id="no zero in trouble"),
        pytest.param(after(1), Load(0, 0, 1.0), Health.UNDERLOAD, 0, Reason.IDLE_ZERO, id="underload lets go"),
        pytest.param(
            after(1, 2, raised=1, credit=9),
            Load(0, 2, NOW),
            Health.OVERLOAD,
            2,
            Reason.VETO,
            id="what was raised stays",
        ),
        pytest.param(
            after(1, 2, raised=1, credit=9), Load(0, 2, NOW), Health.NORMAL, 1, Reason.DEMAND, id="until it is normal"
        ),
        pytest.param(
            after(99, 2, raised=1, credit=9), Load(0, 2, NOW), Health.OVERLOAD, 1, Reason.DEMAND, id="or is paid for"
        ),
        pytest.param(after(1, 2, raised=1), None, None, 2, Reason.UNKNOWN, id="unknown keeps what was raised"),
        pytest.param(
            after(1, 4, credit=3600), Load(0, 16, NOW), Health.OVERLOAD, 4, Reason.DEMAND, id="never above the maximum"
        ),
    ],
)
def test_verdicts(state: State, load: Load | None, health: Health | None, desired: int, reason: Reason) -> None:
    decision = decide(state, load, Limits(maximum=4, slots=4), NOW, health)

    assert (decision.desired, decision.reason) == (desired, reason)
    assert decision.sentence


def test_a_rise_comes_in_steps_where_the_rate_of_change_is_bound() -> None:
    limits = Limits(maximum=9, slots=1, changes_per_minute=3)
    first = decide(State(since=0), Load(9, 0, NOW), limits, NOW)
    soon = decide(first.state, Load(9, 0, NOW), limits, NOW + 1)
    later = decide(soon.state, Load(9, 0, NOW), limits, NOW + 41)

    assert [first.desired, soon.desired, later.desired] == [3, 3, 5]
    assert first.reason is soon.reason is Reason.RATE
    assert "3 changes a minute" in first.sentence


def test_a_shrink_waits_as_long_as_a_replica_needs_to_come_back() -> None:
    limits = Limits(maximum=4, slots=4, shrink_seconds=60, lead_seconds=180)
    state = State(since=0, desired=3, alive=3, surplus_since=NOW - 179, surplus_peak=1)

    assert decide(state, Load(0, 4, NOW), limits, NOW).reason is Reason.SHRINK_WAIT
    assert decide(state, Load(0, 4, NOW), limits, NOW + 1).reason is Reason.SHRINK


def test_a_degraded_replica_goes_when_another_has_come_for_it() -> None:
    limits = Limits(maximum=4, slots=4, replace_degraded=True)

    def look(state: State, seconds: float, **seen: float) -> Decision:
        seen = {"alive": 2, "starting": 0, **seen}
        return decide(replace(state, **seen), Load(0, 2, NOW), limits, NOW + seconds, Health.DEGRADED)  # type: ignore[arg-type]

    asked = look(after(1, credit=100, ready_at=NOW - 900), 0, alive=1)
    coming = look(asked.state, 10, starting=1)
    come = look(coming.state, 21, ready_at=NOW + 20)
    later = look(come.state, 22, alive=1)

    assert [each.desired for each in (asked, coming, come, later)] == [2, 2, 1, 2]
    assert [each.reason for each in (asked, coming, come)] == [Reason.DEGRADED, Reason.VETO, Reason.REPLACE]
    assert "oldest" in come.sentence
    assert later.reason is Reason.DEGRADED  # the verdict lasts, and there is credit for one more


def test_a_replica_that_a_verdict_only_kept_replaces_none() -> None:
    state = after(1, 2, credit=100, ready_at=NOW - 1, surplus_since=NOW - 60, surplus_peak=1)
    decision = decide(state, Load(0, 2, NOW), Limits(maximum=4, slots=4, replace_degraded=True), NOW, Health.DEGRADED)

    assert (decision.desired, decision.reason) == (2, Reason.VETO)


def test_a_replacement_waits_for_the_rate_of_change() -> None:
    limits = Limits(maximum=4, slots=4, replace_degraded=True, changes_per_minute=1)
    state = after(10, 2, raised=1, credit=100, changes=0.5, replacing_since=NOW - 9, ready_at=NOW - 2)
    held = decide(state, Load(0, 2, NOW), limits, NOW, Health.DEGRADED)
    done = decide(replace(held.state, alive=2), Load(0, 2, NOW), limits, NOW + 30, Health.DEGRADED)

    assert (held.desired, held.reason) == (2, Reason.VETO)
    assert (done.desired, done.reason) == (1, Reason.REPLACE)


@pytest.mark.parametrize(
    ("health", "lead", "reason"),
    [
        pytest.param(Health.UNDERLOAD, 0, Reason.SHRINK, id="sooner"),
        pytest.param(Health.UNDERLOAD, 60, Reason.SHRINK_WAIT, id="not sooner than one is back"),
        pytest.param(Health.NORMAL, 0, Reason.SHRINK_WAIT, id="not without the verdict"),
    ],
)
def test_underload_shortens_the_wait_of_a_shrink(health: Health, lead: float, reason: Reason) -> None:
    limits = Limits(maximum=4, slots=4, lead_seconds=lead, underload_patience=0.25)
    state = State(since=0, desired=3, alive=3, surplus_since=NOW - 15, surplus_peak=1)

    assert decide(state, Load(0, 4, NOW), limits, NOW, health).reason is reason


def test_a_back_off_holds_a_rise_by_a_verdict() -> None:
    state = replace(after(1, credit=61), back_off=BackOff(1, NOW + 4, "killed"))

    assert decide(state, Load(0, 2, NOW), Limits(maximum=4, slots=4), NOW, Health.OVERLOAD).desired == 1


def test_decisions_recorded_before_there_were_verdicts_replay() -> None:
    decision = decide(State(since=0), Load(9, 0, NOW), Limits(maximum=4, slots=4), NOW)
    inputs = dict(decision.inputs)
    added = ("decided_at", "raised", "credit", "changes", "health", "headroom", "lead_seconds", "changes_per_minute")
    for name in (*added, "trouble_share", "replacing_since", "replace_degraded", "underload_patience", "busy_share"):
        del inputs[name]

    assert replay(inputs) == decision


@pytest.mark.parametrize("health", list(Health))
def test_verdicts_recorded_before_replicas_were_replaced_replay(health: Health) -> None:
    limits = Limits(maximum=4, slots=4)
    decision = decide(after(1, 2, raised=1, credit=61), Load(0, 2, NOW), limits, NOW, health)
    added = ("replacing_since", "replace_degraded", "underload_patience", "busy_share")
    recorded = {name: value for name, value in decision.inputs.items() if name not in added}

    assert replay(recorded) == decision


def test_a_verdict_that_nobody_gives_does_not_replay() -> None:
    inputs = dict(decide(State(since=0), Load(1, 0, NOW), Limits(), NOW).inputs)

    with pytest.raises(ReplayError, match="health"):
        replay({**inputs, "health": "splendid"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"headroom": -1.0},
        {"lead_seconds": nan},
        {"trouble_share": -0.1},
        {"changes_per_minute": 0.0},
        {"underload_patience": 1.5},
        {"underload_patience": nan},
        {"busy_share": 0.0},
        {"busy_share": 1.1},
    ],
)
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Limits(**wrong)  # type: ignore[arg-type]
