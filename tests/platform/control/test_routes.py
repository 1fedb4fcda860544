"""Routes: who takes work, what a waiting caller is told, when a failure is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.activator.values import Route
from pilotlight.detector.values import BackOff
from pilotlight.platform.control.routes import Served, failure_text, phase_seconds, route, start_progress
from pilotlight.platform.control.world import FunctionView
from pilotlight.runtime.spec import Phase, PhaseReport, ReplicaState, ReplicaStatus

NOW = 1000.0
ETA = {"schedule": 1.0, "fetch": 2.0, "import": 4.0, "load": 8.0, "warmup": 1.0}
FINE = BackOff()
Make = Callable[..., Any]


@pytest.fixture
def view(function: Make) -> FunctionView:
    made: FunctionView = function("chat")
    return made


def served(
    view: FunctionView, state: ReplicaState, wanted: bool = True, was_ready: bool = True, **status: Any
) -> Served:
    said = ReplicaStatus("r1", view.revision.name, state, endpoint="http://127.0.0.1:5", **status)
    return Served("r1", view.revision, said, wanted, was_ready)


def told(view: FunctionView, *replicas: Served, back_off: BackOff = FINE) -> Route:
    return route(view, view.revision, replicas, ETA, back_off, NOW)


@pytest.mark.parametrize(
    ("state", "wanted", "accepting"),
    [
        pytest.param(ReplicaState.READY, True, True, id="ready"),
        pytest.param(ReplicaState.READY, False, False, id="leaving"),
        pytest.param(ReplicaState.DRAINING, True, False, id="drained by somebody else"),
    ],
)
def test_who_takes_work(view: FunctionView, state: ReplicaState, wanted: bool, accepting: bool) -> None:
    [replica] = told(view, served(view, state, wanted)).replicas

    assert replica.accepting is accepting
    assert (replica.url, replica.engine_key, replica.slots) == ("http://127.0.0.1:5", "k", 4)


def test_the_revision_that_is_not_served_takes_no_new_work(view: FunctionView) -> None:
    old = replace(served(view, ReplicaState.READY), revision=replace(view.revision, name="chat-00000"))

    assert [replica.accepting for replica in told(view, old).replicas] == [False]


def test_a_start_is_told_with_phase_percent_and_what_is_left(view: FunctionView) -> None:
    phases = (PhaseReport(Phase.SCHEDULE, 990.0, 991.0), PhaseReport(Phase.LOAD, 996.0, progress=0.5))
    start = told(view, served(view, ReplicaState.STARTING, was_ready=False, phases=phases))

    assert start.replicas == ()
    assert start.start is not None
    assert (start.start.phase, start.start.percent, start.start.started_at) == ("load", 50, 990.0)
    assert 1.0 < start.start.eta_seconds < 9.0
    assert start.start_eta_seconds == 16.0


@given(
    st.sampled_from(list(Phase)),
    st.floats(-100, 1000),
    st.lists(st.floats(0, 1), min_size=2, max_size=5),
    st.lists(st.floats(0, 60), min_size=5, max_size=5),
)
def test_what_a_caller_is_told_never_goes_back(
    phase: Phase, began: float, progress: list[float], seconds: list[float]
) -> None:
    """Within a phase the percentage only grows; no time that is left is negative, not even on another's clock."""
    eta = dict(zip(ETA, seconds, strict=True))
    phases = [(PhaseReport(phase, NOW - began, progress=share),) for share in sorted(progress)]
    told = [start_progress(ReplicaStatus("r", "x", ReplicaState.STARTING, at), eta, NOW) for at in phases]

    percents = [start.percent for start in told if start.percent is not None]
    assert percents == sorted(percents)
    assert all(0 <= percent <= 100 for percent in percents)
    assert all(start.eta_seconds >= 0 for start in told)


@pytest.mark.parametrize(
    ("back_off", "failure"),
    [
        pytest.param(BackOff(1, NOW + 4, "no memory"), "no memory", id="a failed start is told at once"),
        pytest.param(BackOff(1, NOW + 4, "killed", served=True), "", id="one that had served is replaced first"),
        pytest.param(BackOff(3, NOW + 4, "killed", served=True), "killed", id="not for ever"),
        pytest.param(BackOff(3, NOW, "killed"), "", id="the next try is due"),
        pytest.param(BackOff(), "", id="none"),
    ],
)
def test_when_callers_are_told_of_a_failure(view: FunctionView, back_off: BackOff, failure: str) -> None:
    found = told(view, back_off=back_off)

    assert found.failure == failure
    assert found.retry_after_seconds == (4.0 if failure else 0.0)


def test_a_start_under_way_is_worth_waiting_for(view: FunctionView) -> None:
    starting = served(view, ReplicaState.STARTING, was_ready=False)

    assert told(view, starting, back_off=BackOff(3, NOW + 4, "killed")).failure == ""


def test_a_failure_carries_the_last_lines_of_the_log() -> None:
    status = ReplicaStatus("r1", "x", ReplicaState.FAILED, message="it ended.", log_tail=("a", "b", "", "c", "d" * 900))

    text = failure_text(status)

    assert text.startswith("it ended; the log ends: b | c | d")
    assert len(text) == 600


def test_phases_of_a_finished_start_are_learned_without_the_last() -> None:
    phases = (
        PhaseReport(Phase.SCHEDULE, 1.0, 2.0),
        PhaseReport(Phase.LOAD, 2.0, 5.0),
        PhaseReport(Phase.READY, 5.0, 5.0),
    )

    assert phase_seconds(ReplicaStatus("r", "x", ReplicaState.READY, phases)) == {"schedule": 1.0, "load": 3.0}
