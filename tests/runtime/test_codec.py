"""Specs and statuses as JSON: nothing is lost on the way, nothing unknown gets in."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.runtime.codec import LIMIT, MOST, BadDocumentError, dump, parse_spec, parse_status
from pilotlight.runtime.spec import (
    STATUS_VERSION,
    AdapterSpec,
    EngineCounters,
    EngineSpec,
    Phase,
    PhaseReport,
    ReplicaSpec,
    ReplicaState,
    ReplicaStatus,
)

_TEXT = st.text(max_size=20)
_SPECS = st.builds(
    ReplicaSpec,
    replica=_TEXT,
    function=_TEXT,
    revision=_TEXT,
    task=st.sampled_from(["generate", "embed"]),
    store=_TEXT,
    model=_TEXT,
    served_names=st.lists(_TEXT, max_size=3).map(tuple),
    engine=st.builds(
        EngineSpec,
        kind=st.just("vllm"),
        options=st.dictionaries(_TEXT, st.none() | st.booleans() | st.integers() | _TEXT, max_size=3),
        environment=st.dictionaries(_TEXT, _TEXT, max_size=3),
        key=_TEXT,
    ),
    adapters=st.lists(st.builds(AdapterSpec, name=_TEXT, digest=_TEXT), max_size=2).map(tuple),
    cpus=st.lists(st.integers(0, 63), max_size=4).map(tuple),
    threads=st.integers(1, 64),
    devices=st.lists(_TEXT, max_size=2).map(tuple),
    created_at=st.floats(0, 1e10),
)
_REPORTS = st.builds(
    PhaseReport,
    name=st.sampled_from(Phase),
    start=st.floats(0, 1e10),
    end=st.none() | st.floats(0, 1e10),
    progress=st.none() | st.floats(0, 1),
    detail=_TEXT,
)
_COUNTERS = st.builds(
    EngineCounters,
    at=st.floats(0, 1e10),
    looks=st.integers(0, MOST),
    in_flight=st.integers(0, MOST),
    gap_seconds=st.none() | st.floats(0, 1e10),
)
_STATUSES = st.builds(
    ReplicaStatus,
    replica=_TEXT,
    revision=_TEXT,
    state=st.sampled_from(ReplicaState),
    phases=st.lists(_REPORTS, max_size=6).map(tuple),
    running=st.none() | st.integers(0, 1000),
    counters=st.none() | _COUNTERS,
    log_tail=st.lists(_TEXT, max_size=3).map(tuple),
)
_SPEC = {
    "replica": "r",
    "function": "a/chat",
    "revision": "1",
    "task": "generate",
    "store": "file:///m",
    "model": "sha256:0",
    "served_names": ["chat"],
    "engine": {"kind": "vllm"},
}


@given(_SPECS)
def test_a_spec_comes_back_as_it_went(spec: ReplicaSpec) -> None:
    assert parse_spec(dump(spec)) == spec


@given(_STATUSES)
def test_a_status_comes_back_as_it_went(status: ReplicaStatus) -> None:
    assert parse_status(dump(status)) == status


def test_fields_with_defaults_may_be_missing_and_whole_numbers_stand_for_seconds() -> None:
    spec = parse_spec(json.dumps(_SPEC | {"start_seconds": 5}).encode())
    assert spec.start_seconds == 5.0
    assert spec.drain_seconds == 120.0


@pytest.mark.parametrize(
    ("change", "where", "problem"),
    [
        pytest.param({"colour": 1}, "colour", "unknown", id="unknown key"),
        pytest.param({"engine": {"kind": "vllm", "kex": ""}}, "engine.kex", "unknown", id="unknown nested key"),
        pytest.param({"engine": {}}, "engine.kind", "missing", id="missing nested key"),
        pytest.param({"threads": "1"}, "threads", "expected int, not str", id="wrong type"),
        pytest.param({"threads": True}, "threads", "expected int, not bool", id="true is no number"),
        pytest.param({"cpus": [0, "1"]}, "cpus[1]", "expected int", id="wrong type in a list"),
        pytest.param({"served_names": "chat"}, "served_names", "expected a list", id="text is no list"),
        pytest.param({"engine": {"kind": "vllm", "environment": {"A": 1}}}, "engine.environment.A", "str", id="map"),
        pytest.param({"adapters": [{"name": "a"}]}, "adapters[0].digest", "missing", id="missing in a list"),
    ],
)
def test_a_spec_that_is_none_is_refused_with_the_place(change: dict[str, object], where: str, problem: str) -> None:
    with pytest.raises(BadDocumentError) as caught:
        parse_spec(json.dumps(_SPEC | change).encode())
    assert caught.value.where == where
    assert problem in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b" " * (LIMIT + 1)])
def test_bytes_that_are_no_document_are_refused(data: bytes) -> None:
    with pytest.raises(BadDocumentError):
        parse_spec(data)


def test_a_state_that_is_none_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadDocumentError, match="'asleep' is none of starting, ready"):
        parse_status(b'{"replica": "r", "revision": "1", "state": "asleep"}')


def _status(**changes: object) -> bytes:
    counters = {"at": 1.0, "looks": 1, "in_flight": 1, "watts": 300.0}
    told = {"replica": "r", "revision": "1", "state": "ready", "mood": {"good": True}, "counters": counters}
    return json.dumps({**told, **changes}).encode()


def test_fields_that_only_a_newer_status_has_are_left_out() -> None:
    status = parse_status(_status(version=STATUS_VERSION + 1))

    assert status.counters == EngineCounters(at=1.0, looks=1, in_flight=1)
    assert (status.state, status.version) == (ReplicaState.READY, STATUS_VERSION + 1)


@pytest.mark.parametrize("version", [{}, {"version": STATUS_VERSION}, {"version": 0}, {"version": -1}])
def test_unknown_fields_of_a_status_that_is_not_newer_are_refused(version: dict[str, int]) -> None:
    with pytest.raises(BadDocumentError, match="mood: unknown"):
        parse_status(_status(**version))
    with pytest.raises(BadDocumentError, match=r"counters\.watts: unknown"):
        parse_status(_status(**version).replace(b'"mood": {"good": true}', b'"message": ""'))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"running": "3"}, "running: expected int"),
        ({"state": "asleep"}, "'asleep' is none of"),
        ({"counters": {"at": 1.0, "watts": 1}}, "counters.looks: missing"),
        ({"mood": "x" * LIMIT}, "are more than"),
        ({"version": True}, "unknown"),
        ({"version": "2"}, "unknown"),
        ({"version": MOST + 1}, "version: expected a number of at most"),
    ],
)
def test_what_is_known_of_a_newer_status_is_checked_as_always(change: dict[str, object], said: str) -> None:
    with pytest.raises(BadDocumentError, match=said):
        parse_status(_status(**{"version": STATUS_VERSION + 1, **change}))


def test_a_spec_is_never_read_in_part() -> None:
    with pytest.raises(BadDocumentError, match="unknown"):
        parse_spec(json.dumps(_SPEC | {"version": STATUS_VERSION + 1}).encode())


@pytest.mark.parametrize("field", ["looks", "gap_seconds"])
@pytest.mark.parametrize("number", [MOST + 1, -MOST - 1, 10**400])
def test_a_number_that_no_arithmetic_bears_is_refused(field: str, number: int) -> None:
    counters = {"at": 1.0, "looks": 1, "in_flight": 1, field: number}
    status = {"replica": "r", "revision": "1", "state": "ready", "counters": counters}

    with pytest.raises(BadDocumentError, match=f"counters.{field}: expected a number of at most"):
        parse_status(json.dumps(status).encode())
    fine = parse_status(json.dumps({**status, "counters": {**counters, field: MOST}}).encode())
    assert getattr(fine.counters, field) == pytest.approx(MOST)
