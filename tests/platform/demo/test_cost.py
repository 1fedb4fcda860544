"""The bill's arithmetic."""

from __future__ import annotations

import pytest

from pilotlight.platform.demo.cost import GIB, Bill, Footprint, Prices, bill

SUMS = {"replica_starting_seconds": 14.0, "replica_serving_seconds": 2.0, "replica_idle_seconds": 10.0}


def test_a_second_is_billed_while_a_replica_exists() -> None:
    assert bill(SUMS, 60.0) == Bill({"starting": 14.0, "serving": 2.0, "idle": 10.0}, 60.0)
    assert bill(SUMS, 60.0).billed_seconds == 26.0


def test_an_hour_costs_its_processors_and_its_memory() -> None:
    footprint = Footprint(cpus=2.0, memory_bytes=4 * GIB)

    assert footprint.dollars(3600.0, Prices(cpu_hour=0.04, gib_hour=0.005)) == pytest.approx(0.10)
