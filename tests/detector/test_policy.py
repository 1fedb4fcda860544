"""The demand policy: named cases for each guard-rail, and the laws that hold for every input."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.detector.backoff import after_crash, after_success
from pilotlight.detector.policy import decide
from pilotlight.detector.replay import ReplayError, replay
from pilotlight.detector.values import LONGEST_WAIT_SECONDS, BackOff, Limits, Load, Reason, State

NOW = 10_000.0


@pytest.mark.parametrize(
    ("state", "load", "limits", "desired", "reason"),
    [
        pytest.param(State(since=0), Load(0, 0, 0), Limits(), 0, Reason.IDLE, id="at zero without work stays at zero"),
        pytest.param(State(since=0), Load(1, 0, NOW), Limits(slots=8), 1, Reason.DEMAND, id="first request starts one"),
        pytest.param(
            State(since=0), Load(50, 0, NOW), Limits(maximum=1, slots=8), 1, Reason.MAXIMUM, id="maximum clips"
        ),
        pytest.param(
            State(since=0), Load(17, 0, NOW), Limits(maximum=9, slots=8), 3, Reason.DEMAND, id="rounds upwards"
        ),
        pytest.param(
            State(since=0),
            Load(8, 0, NOW),
            Limits(maximum=9, slots=8, target=0.5),
            2,
            Reason.DEMAND,
            id="target leaves head-room",
        ),
        pytest.param(State(since=0), Load(0, 0, 0), Limits(minimum=2, maximum=3), 2, Reason.MINIMUM, id="minimum"),
        pytest.param(
            State(since=0),
            Load(1, 0, NOW),
            Limits(minimum=2, maximum=3),
            2,
            Reason.MINIMUM,
            id="minimum above what demand asks",
        ),
        pytest.param(
            State(since=0, desired=1, alive=1),
            Load(0, 0, NOW - 299),
            Limits(),
            1,
            Reason.KEEP_ALIVE,
            id="idle within keep-alive stays warm",
        ),
        pytest.param(
            State(since=0, desired=1, alive=1),
            Load(0, 0, NOW - 300),
            Limits(),
            0,
            Reason.IDLE_ZERO,
            id="idle for the keep-alive goes to zero",
        ),
        pytest.param(
            State(since=0, desired=1, alive=1, starting=1),
            Load(0, 0, NOW - 900),
            Limits(),
            1,
            Reason.KEEP_ALIVE,
            id="a start under way is finished however short the keep-alive",
        ),
        pytest.param(
            State(since=0, desired=1, alive=1, ready_at=NOW - 299),
            Load(0, 0, NOW - 900),
            Limits(),
            1,
            Reason.KEEP_ALIVE,
            id="idleness counts from when the replica was ready",
        ),
        pytest.param(
            State(since=0, desired=1, alive=1, ready_at=NOW - 300),
            Load(0, 0, NOW - 900),
            Limits(),
            0,
            Reason.IDLE_ZERO,
            id="idle for the keep-alive since it was ready goes to zero",
        ),
        pytest.param(
            State(since=0, desired=3, alive=3, starting=1, surplus_since=NOW - 60, surplus_peak=1),
            Load(0, 0, NOW - 900),
            Limits(maximum=4),
            1,
            Reason.SHRINK,
            id="a start under way does not keep the others",
        ),
        pytest.param(
            State(since=NOW - 10, desired=1, alive=1),
            Load(0, 0, 0),
            Limits(),
            1,
            Reason.KEEP_ALIVE,
            id="never called counts from when it was first seen",
        ),
        pytest.param(
            State(since=0, desired=1, alive=1),
            Load(0, 1, NOW - 9_000),
            Limits(),
            1,
            Reason.DEMAND,
            id="a long stream keeps its replica whatever the keep-alive",
        ),
        pytest.param(
            State(since=0, desired=3, alive=3), None, Limits(maximum=4), 3, Reason.UNKNOWN, id="unknown never shrinks"
        ),
        pytest.param(
            State(since=0, desired=0), None, Limits(minimum=1, maximum=4), 1, Reason.UNKNOWN, id="unknown keeps minimum"
        ),
        pytest.param(
            State(since=0, desired=3, alive=3),
            Load(0, 4, NOW),
            Limits(maximum=4, slots=4),
            3,
            Reason.SHRINK_WAIT,
            id="a shrink waits",
        ),
        pytest.param(
            State(since=0, desired=3, alive=3, surplus_since=NOW - 60, surplus_peak=2),
            Load(0, 4, NOW),
            Limits(maximum=4, slots=4),
            2,
            Reason.SHRINK,
            id="a shrink stops at the window's peak",
        ),
        pytest.param(
            State(since=0, desired=3, alive=3),
            Load(0, 0, NOW - 400),
            Limits(maximum=4),
            0,
            Reason.IDLE_ZERO,
            id="all idle replicas go at once after the keep-alive",
        ),
        pytest.param(
            State(since=0, desired=1, back_off=BackOff(3, NOW + 4, "no memory")),
            Load(2, 0, NOW),
            Limits(),
            0,
            Reason.BACK_OFF,
            id="crash back-off holds starts",
        ),
        pytest.param(
            State(since=0, desired=1, back_off=BackOff(3, NOW, "no memory")),
            Load(2, 0, NOW),
            Limits(slots=8),
            1,
            Reason.DEMAND,
            id="back-off over",
        ),
        pytest.param(
            State(since=0, desired=2, alive=1, back_off=BackOff(1, NOW + 4, "killed")),
            Load(9, 4, NOW),
            Limits(maximum=4, slots=4),
            1,
            Reason.BACK_OFF,
            id="back-off keeps what is alive",
        ),
    ],
)
def test_decides(state: State, load: Load | None, limits: Limits, desired: int, reason: Reason) -> None:
    decision = decide(state, load, limits, NOW)

    assert (decision.desired, decision.reason) == (desired, reason)
    assert decision.sentence
    assert decision.state.desired == desired


def test_a_surge_inside_the_shrink_window_starts_the_window_anew() -> None:
    limits = Limits(maximum=4, slots=4, shrink_seconds=60)
    state = State(since=0, desired=3, alive=3)

    state = decide(state, Load(0, 4, NOW), limits, NOW).state
    assert state.surplus_since == NOW
    state = decide(state, Load(0, 12, NOW + 30), limits, NOW + 30).state
    assert state.surplus_since is None
    decision = decide(state, Load(0, 4, NOW + 61), limits, NOW + 61)

    assert (decision.desired, decision.reason) == (3, Reason.SHRINK_WAIT)


counts = st.integers(0, 200)
times = st.floats(0, 2 * NOW, allow_nan=False)
loads = st.builds(Load, queued=counts, in_flight=counts, last_active=times)
limits_ = st.builds(
    lambda low, more, keep, slots, target, shrink: Limits(low, low + more, keep, slots, target, shrink),
    st.integers(0, 4),
    st.integers(0, 8),
    st.floats(0, 1000),
    st.integers(1, 64),
    st.floats(0.1, 1),
    st.floats(0, 300),
)
back_offs = st.builds(BackOff, st.integers(0, 20), times, st.just(""), st.booleans())
states = st.builds(
    State,
    since=times,
    desired=st.integers(0, 12),
    alive=st.integers(0, 12),
    starting=st.integers(0, 3),
    ready_at=times,
    surplus_since=st.none() | times,
    surplus_peak=st.integers(0, 12),
    back_off=back_offs,
)


@given(states, loads, limits_)
def test_work_in_hand_never_gets_zero_unless_starts_are_backing_off(state: State, load: Load, limits: Limits) -> None:
    decision = decide(state, load, limits, NOW)

    if load.queued + load.in_flight > 0 and limits.maximum > 0 and decision.reason is not Reason.BACK_OFF:
        assert decision.desired >= 1
    if decision.reason is Reason.BACK_OFF:
        assert state.back_off.retry_at > NOW
        assert decision.desired == state.alive


@given(states, st.none() | loads, limits_)
def test_stays_within_the_limits(state: State, load: Load | None, limits: Limits) -> None:
    decision = decide(state, load, limits, NOW)

    assert decision.desired <= limits.maximum
    assert decision.desired >= limits.minimum or decision.reason is Reason.BACK_OFF


@given(states, limits_)
def test_unknown_demand_never_shrinks(state: State, limits: Limits) -> None:
    decision = decide(state, None, limits, NOW)

    assert decision.desired >= min(state.desired, limits.maximum) or decision.reason is Reason.BACK_OFF


@given(states, loads, limits_)
def test_more_work_never_means_fewer_replicas(state: State, load: Load, limits: Limits) -> None:
    more = Load(load.queued + 1, load.in_flight, load.last_active)

    assert decide(state, more, limits, NOW).desired >= decide(state, load, limits, NOW).desired


@given(states, st.none() | loads, limits_)
def test_same_input_same_answer(state: State, load: Load | None, limits: Limits) -> None:
    assert decide(state, load, limits, NOW) == decide(state, load, limits, NOW)


@given(states, st.none() | loads, limits_)
def test_what_was_recorded_replays_to_the_same_decision(state: State, load: Load | None, limits: Limits) -> None:
    decision = decide(state, load, limits, NOW)

    assert replay(json.loads(json.dumps(dict(decision.inputs)))) == decision


@pytest.mark.parametrize("name", ["now", "slots", "retry_at"])
def test_inputs_that_are_not_complete_do_not_replay(name: str) -> None:
    inputs = dict(decide(State(since=0), Load(1, 0, NOW), Limits(), NOW).inputs)
    del inputs[name]

    with pytest.raises(ReplayError, match=name):
        replay(inputs)


@pytest.mark.parametrize(
    ("crashes", "sentence"),
    [
        pytest.param([False], "a start failed; the next start is due in 1.0 s", id="a start"),
        pytest.param([True], "a replica died while serving; the next start is due in 1.0 s", id="while serving"),
        pytest.param(
            [True, False],
            "a start failed, failure 2 in a row; the next start is due in 2.0 s",
            id="then a start",
        ),
    ],
)
def test_a_back_off_says_what_happened(crashes: list[bool], sentence: str) -> None:
    back_off = BackOff()
    for served in crashes:
        back_off = after_crash(back_off, NOW, "killed", served)

    assert decide(State(since=0, back_off=back_off), Load(1, 0, NOW), Limits(), NOW).sentence == sentence


def test_a_clock_that_is_set_back_does_not_prolong_a_back_off() -> None:
    back_off = after_crash(BackOff(20), NOW, "killed")

    assert back_off.wait(NOW) == LONGEST_WAIT_SECONDS
    assert back_off.wait(NOW - 3600) == 0.0


def test_decisions_recorded_before_starts_were_counted_replay() -> None:
    inputs = dict(decide(State(since=0), Load(1, 0, NOW), Limits(), NOW).inputs)
    del inputs["starting"], inputs["ready_at"], inputs["served"]

    assert replay(inputs).desired == 1


@given(states, loads, limits_)
def test_a_start_under_way_never_ends_for_idleness(state: State, load: Load, limits: Limits) -> None:
    decision = decide(state, load, limits, NOW)

    if state.starting:
        assert decision.reason is not Reason.IDLE_ZERO


@given(st.integers(0, 60))
def test_back_off_doubles_up_to_its_bound(failures: int) -> None:
    after = after_crash(BackOff(failures), NOW, "killed")

    assert after.failures == failures + 1
    assert after.retry_at - NOW == min(LONGEST_WAIT_SECONDS, 2.0**failures)
    assert after_success().failures == 0
