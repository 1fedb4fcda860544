"""The bill's arithmetic."""

from __future__ import annotations

import pytest

from pilotlight.platform.demo.cost import GIB, Bill, Footprint, Prices, bill

INTERVALS = [
    {"replica": "r-1", "state": "starting", "start": 100.0, "end": 114.0},
    {"replica": "r-1", "state": "serving", "start": 114.0, "end": 115.5},
    {"replica": "r-1", "state": "idle", "start": 115.5, "end": 125.5},
    {"replica": "r-1", "state": "serving", "start": 125.5, "end": 126.0},
]


def test_seconds_are_summed_by_state() -> None:
    assert bill(INTERVALS, 60.0) == Bill({"starting": 14.0, "serving": 2.0, "idle": 10.0}, 60.0)
    assert bill(INTERVALS, 60.0).billed_seconds == 26.0


def test_a_state_without_seconds_is_shown_as_none() -> None:
    assert bill([], 1.0).seconds == {"starting": 0.0, "serving": 0.0, "idle": 0.0}


def test_an_hour_costs_its_processors_and_its_memory() -> None:
    footprint = Footprint(cpus=2.0, memory_bytes=4 * GIB)

    assert footprint.dollars(3600.0, Prices(cpu_hour=0.04, gib_hour=0.005)) == pytest.approx(0.10)
