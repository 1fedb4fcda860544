"""How a start in a cluster is taken apart into consecutive parts."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

REVISION = "chat-00001"


@pytest.fixture(scope="module")
def timeline() -> Iterator[ModuleType]:
    """A script's module: `benchmarks/` is no package."""
    path = Path(__file__).parents[2] / "benchmarks" / "timeline.py"
    spec = importlib.util.spec_from_file_location("timeline", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # which dataclasses look at
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules[spec.name]


seconds = st.floats(0.0, 100.0)


@given(gaps=st.lists(seconds, min_size=11, max_size=11), tells=st.booleans())
def test_the_parts_of_a_start_are_the_whole_of_it(timeline: ModuleType, gaps: list[float], tells: bool) -> None:
    at = [sum(gaps[: index + 1]) for index in range(len(gaps))]
    sent, decided, patched, scheduled, fetch, imports, load, warmup, ready, first, token = at
    phases = {
        "fetch": (fetch, imports),
        "import": (imports, load),
        "load": (load, warmup),
        "warmup": (warmup, ready),
        "ready": (ready, ready),
    }
    start = timeline.Start(
        "ours", 1.0, sent, decided if tells else None, patched, scheduled, scheduled, phases, first, token
    )

    parts = start.parts()

    assert sum(parts.values()) == pytest.approx(start.whole, abs=1e-6)
    assert min(parts.values()) >= -1e-6
    assert start.own == pytest.approx((patched - sent) + (first - ready), abs=1e-6)
    assert (parts["scale patch"] == 0.0) or tells


def deployment(at: float, replicas: int, name: str = f"{REVISION}-deployment") -> tuple[float, dict[str, Any]]:
    return at, {"metadata": {"name": name}, "spec": {"replicas": replicas} if replicas else {}}


def test_a_scale_patch_is_the_first_one_of_this_start(timeline: ModuleType) -> None:
    seen = [deployment(1.0, 1), deployment(2.0, 0), deployment(3.0, 1, "other"), deployment(4.0, 1), deployment(5.0, 1)]
    assert timeline.patched(seen, REVISION, 2.0) == 4.0
    with pytest.raises(LookupError, match="not seen to be scaled up"):
        timeline.patched(seen, REVISION, 6.0)


def test_the_pod_of_a_start_is_the_one_that_came_to_a_node_since(timeline: ModuleType) -> None:
    def pod(at: float, name: str, node: str = "", address: str = "") -> tuple[float, dict[str, Any]]:
        labels = {"serving.knative.dev/revision": REVISION}
        status = {"podIP": address} if address else {}
        return at, {"metadata": {"name": name, "labels": labels}, "spec": {"nodeName": node}, "status": status}

    seen = [pod(1.0, "old", "n"), pod(3.0, "new"), pod(4.0, "new", "n"), pod(5.0, "new", "n", "10.0.0.1")]
    assert timeline.scheduled(seen, REVISION, 2.0) == (4.0, "new")
    assert timeline.addressed(seen, "new") == 5.0
    with pytest.raises(LookupError, match="not seen with an address"):
        timeline.addressed(seen, "old")


def test_a_decision_is_the_first_one_for_a_replica_since_the_request(timeline: ModuleType) -> None:
    told = [{"at": 1.0, "desired": 1}, {"at": 3.0, "desired": 0}, {"at": 5.0, "desired": 2}, {"at": 4.0, "desired": 1}]
    assert timeline.decided(told, 2.0) == 4.0
    assert timeline.decided(told, 6.0) is None


def test_a_phase_that_goes_on_ends_where_it_began(timeline: ModuleType) -> None:
    status = {"phases": [{"name": "load", "start": 1.0, "end": 2.0}, {"name": "ready", "start": 2.0, "end": None}]}
    assert timeline.phases(status) == {"load": (1.0, 2.0), "ready": (2.0, 2.0)}
