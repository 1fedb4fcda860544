"""Admission as a table: what is weighed, and what a refused caller is told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.activator.admission import Admit, Load, admit, expected_wait
from pilotlight.activator.errors import RefusedError
from pilotlight.activator.settings import Settings
from pilotlight.activator.values import FunctionId, Route, StartProgress

SETTINGS = Settings()
COLD = Route(
    FunctionId("team-a", "chat"),
    "r",
    "generate",
    "m",
    context=100,
    tokenizer=None,
    start_eta_seconds=30,
    queue_limit=10,
)
WARM = Load(slots=4, in_flight=1, service_seconds=2.0)
BUSY = Load(slots=4, in_flight=4, queued=3, service_seconds=2.0)


@pytest.mark.parametrize(
    ("route", "load", "deadline", "expected"),
    [
        pytest.param(COLD, WARM, None, Admit(0.0, 600.0), id="a free slot"),
        pytest.param(COLD, WARM, 0.1, Admit(0.0, 0.1), id="a free slot, a short deadline"),
        pytest.param(
            COLD, Load(slots=1, queued_total=50_000), None, Admit(0.0, 600.0), id="others wait, this need not"
        ),
        pytest.param(COLD, Load(), None, Admit(30.0, 600.0), id="cold"),
        pytest.param(COLD, Load(), 40.0, Admit(30.0, 40.0), id="cold, in time"),
        pytest.param(COLD, BUSY, 5.0, Admit(2.0, 5.0), id="busy, in time"),
        pytest.param(replace(COLD, failure="no memory"), WARM, None, Admit(0.0, 600.0), id="failing but one runs"),
        pytest.param(
            replace(COLD, failure="no memory", retry_after_seconds=5.0),
            Load(route_age=6.0),
            None,
            Admit(30.0, 600.0),
            id="failing but the next try is due",
        ),
    ],
)
def test_admitted(route: Route, load: Load, deadline: float | None, expected: Admit) -> None:
    assert admit(route, load, deadline, SETTINGS) == expected


@pytest.mark.parametrize(
    ("route", "load", "deadline", "status", "code", "retry_after"),
    [
        pytest.param(COLD, Load(), 29.0, 503, "deadline_exceeded", 30, id="cold, too late"),
        pytest.param(replace(COLD, deadline_seconds=10.0), Load(), None, 503, "deadline_exceeded", 30, id="class"),
        pytest.param(replace(COLD, hold_seconds=20.0), Load(), None, 503, "deadline_exceeded", 30, id="hold"),
        pytest.param(COLD, WARM, 0.0, 503, "deadline_exceeded", 1, id="passed already"),
        pytest.param(COLD, BUSY, 1.0, 503, "deadline_exceeded", 2, id="busy, too late"),
        pytest.param(COLD, Load(queued=10), None, 429, "queue_full", 30, id="full while cold"),
        pytest.param(
            COLD,
            Load(queued=10, slots=1, in_flight=1, service_seconds=9.0),
            None,
            429,
            "queue_full",
            9,
            id="full, busy",
        ),
        pytest.param(COLD, Load(queued_total=50_000), None, 429, "queue_full", 30, id="full in all"),
        pytest.param(
            replace(COLD, failure="no memory", retry_after_seconds=9.0),
            Load(route_age=2.0),
            None,
            503,
            "function_failing",
            7,
            id="failing",
        ),
    ],
)
def test_refused(route: Route, load: Load, deadline: float | None, status: int, code: str, retry_after: int) -> None:
    refusal = admit(route, load, deadline, SETTINGS)
    assert isinstance(refusal, RefusedError)
    assert (refusal.status, refusal.code, refusal.retry_after) == (status, code, retry_after)


def test_the_learned_start_runs_down_between_two_tellings() -> None:
    starting = replace(COLD, start=StartProgress("load", 50, 12.0, 0.0))
    assert expected_wait(starting, Load(route_age=5.0)) == 7.0
    assert expected_wait(starting, Load(route_age=50.0)) == 0.0


@given(
    queued=st.integers(0, 100_000),
    slots=st.integers(0, 100),
    in_flight=st.integers(0, 100),
    service=st.floats(0, 1000),
    deadline=st.none() | st.floats(-10, 10_000),
)
def test_whoever_is_admitted_is_expected_in_time(
    queued: int, slots: int, in_flight: int, service: float, deadline: float | None
) -> None:
    load = Load(queued=queued, queued_total=queued, slots=slots, in_flight=in_flight, service_seconds=service)
    decision = admit(COLD, load, deadline, SETTINGS)
    if isinstance(decision, RefusedError):
        assert decision.status in {429, 503}
        assert decision.retry_after is not None
        assert decision.retry_after >= 1
    else:
        assert decision.eta_seconds <= decision.hold_seconds <= COLD.hold_seconds
        assert deadline is None or decision.hold_seconds <= deadline
        assert queued < COLD.queue_limit or (slots > in_flight and queued == 0)
