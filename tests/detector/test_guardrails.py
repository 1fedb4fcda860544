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

from pilotlight.detector.policy import decide
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


counts = st.one_of(st.integers(0, 60), st.integers(-5, 10**9))
broken = st.sampled_from([nan, inf, -inf])
loads = st.one_of(
    st.none(),
    st.builds(Load, counts, counts, st.floats(allow_nan=True)),
    # Metrics are no more typed than whoever sends them.
    st.builds(lambda queued: Load(queued, 0, NOW), broken),
)
ticks = st.lists(
    st.builds(Tick, st.floats(-100, 400), loads, st.none() | st.sampled_from(list(Health))), min_size=1, max_size=30
)
limits_ = st.builds(
    lambda low, more, keep, shrink, headroom, lead, rate, share: Limits(
        low,
        low + more,
        keep,
        slots=4,
        shrink_seconds=shrink,
        headroom=headroom,
        lead_seconds=lead,
        changes_per_minute=rate,
        trouble_share=share,
    ),
    st.integers(0, 3),
    st.integers(1, 20),
    st.floats(0, 500),
    st.floats(0, 200),
    st.floats(0, 3),
    st.floats(0, 200),
    st.none() | st.floats(0.1, 30),
    st.floats(0, 1),
)


def run(stream: Sequence[Tick], limits: Limits) -> list[tuple[float, Decision]]:
    """The decisions, each with its time; what is decided is there at once."""
    now, state, decisions = NOW, State(since=NOW), []
    for tick in stream:
        now += tick.seconds
        decision = decide(replace(state, alive=state.desired), tick.load, limits, now, tick.health)
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
        state = decide(replace(state, alive=state.desired), Load(work, 0, now), limits, now, cry).state

    assert raised <= limits.trouble_share * demanded + longest + 1e-6


@given(ticks, limits_)
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


def test_a_back_off_holds_a_rise_by_a_verdict() -> None:
    state = replace(after(1, credit=61), back_off=BackOff(1, NOW + 4, "killed"))

    assert decide(state, Load(0, 2, NOW), Limits(maximum=4, slots=4), NOW, Health.OVERLOAD).desired == 1


def test_decisions_recorded_before_there_were_verdicts_replay() -> None:
    inputs = dict(decide(State(since=0), Load(9, 0, NOW), Limits(maximum=4, slots=4), NOW).inputs)
    added = ("decided_at", "raised", "credit", "changes", "health", "headroom", "lead_seconds", "changes_per_minute")
    for name in (*added, "trouble_share"):
        del inputs[name]

    assert replay(inputs).desired == 3


def test_a_verdict_that_nobody_gives_does_not_replay() -> None:
    inputs = dict(decide(State(since=0), Load(1, 0, NOW), Limits(), NOW).inputs)

    with pytest.raises(ReplayError, match="health"):
        replay({**inputs, "health": "splendid"})


@pytest.mark.parametrize(
    "wrong", [{"headroom": -1.0}, {"lead_seconds": nan}, {"trouble_share": -0.1}, {"changes_per_minute": 0.0}]
)
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Limits(**wrong)  # type: ignore[arg-type]
