"""The replays' chart: everything that was run is in it, and it differs only where figures do."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def replaychart() -> ModuleType:
    """A script's module: `benchmarks/` is no package."""
    path = Path(__file__).parents[2] / "benchmarks" / "replaychart.py"
    spec = importlib.util.spec_from_file_location("replaychart", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(cost: float) -> list[dict[str, Any]]:
    return [
        {
            "policy": policy,
            "requests": 12_345,
            "replica_seconds": cost * knob,
            "slo_attainment": 1 - 0.1 / knob,
            "cold_per_1000": 5 / knob,
        }
        for policy in ("pilotlight-no-vae", "kpa")
        for knob in (1, 2)
    ]


def test_every_replay_and_policy_is_drawn_the_same_each_time(replaychart: ModuleType, tmp_path: Path) -> None:
    drawn = []
    for name, cost in (("a", 3600.0), ("b", 3600.0), ("c", 7200.0)):
        file = tmp_path / f"{name}.svg"
        replaychart.draw({"low": rows(cost), "heavy": rows(2 * cost)}, file)
        drawn.append(file.read_text())

    assert drawn[0] == drawn[1] != drawn[2]
    for text in ("low, 12,345 requests", "heavy, 12,345 requests", "pilotlight-no-vae", "kpa", "replica hours"):
        assert text in drawn[0]
