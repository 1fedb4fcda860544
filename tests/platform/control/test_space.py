"""Devices and processors: who is put where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.platform.control.space import assign_cpus, assign_devices


@pytest.mark.parametrize(
    ("free", "pool", "count", "each", "chosen"),
    [
        pytest.param({"a": 80, "b": 80}, ("a", "b"), 1, 40, ("a",), id="empty machine"),
        pytest.param(
            {"a": 80, "b": 50}, ("a", "b"), 1, 40, ("b",), id="the fullest that fits, so that one stays whole"
        ),
        pytest.param({"a": 80, "b": 30}, ("a", "b"), 1, 40, ("a",), id="too full"),
        pytest.param({"a": 80, "b": 80}, ("a", "b"), 2, 80, ("a", "b"), id="two whole ones"),
        pytest.param({"a": 80, "b": 79}, ("a", "b"), 2, 80, None, id="one too small"),
        pytest.param({"a": 80, "b": 80}, ("b",), 1, 10, ("b",), id="only of the pool"),
        pytest.param({"a": 80}, ("gone",), 1, 10, None, id="a device that is not there"),
        pytest.param({}, (), 0, 0, (), id="no device wanted"),
    ],
)
def test_assigns_devices(
    free: dict[str, int], pool: tuple[str, ...], count: int, each: int, chosen: tuple[str, ...] | None
) -> None:
    assert assign_devices(free, pool, count, each) == chosen


@pytest.mark.parametrize(
    ("total", "taken", "wanted", "chosen"),
    [
        pytest.param(2, [], 2.0, (0, 1), id="alone gets what it wants"),
        pytest.param(2, [], 0.5, (0,), id="a part rounds up"),
        pytest.param(2, [], 16.0, (0, 1), id="no more than there are"),
        pytest.param(4, [(0, 1)], 2.0, (2, 3), id="beside another"),
        pytest.param(2, [(0, 1)], 2.0, (0,), id="a fair share once all are taken"),
        pytest.param(2, [(0, 1), (0,)], 2.0, (1,), id="the least loaded"),
    ],
)
def test_assigns_processors(total: int, taken: list[tuple[int, ...]], wanted: float, chosen: tuple[int, ...]) -> None:
    assert assign_cpus(total, taken, wanted) == chosen


@given(st.integers(1, 64), st.lists(st.lists(st.integers(0, 63)).map(tuple), max_size=8), st.floats(0, 200))
def test_processors_exist_are_distinct_and_at_least_one(
    total: int, taken: list[tuple[int, ...]], wanted: float
) -> None:
    chosen = assign_cpus(total, taken, wanted)

    assert 1 <= len(chosen) <= total
    assert len(set(chosen)) == len(chosen)
    assert all(0 <= cpu < total for cpu in chosen)
