"""Counters through restarts, gaps and scrapes at any time; quantiles of histograms."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.detector.counters import Gain, Point, gain, quantile

AT = st.floats(0, 100)


@pytest.mark.parametrize(
    ("points", "found"),
    [
        pytest.param([], Gain(0, 0), id="nothing is known of no scrape"),
        pytest.param([Point(15, 7)], Gain(0, 0), id="nor of one"),
        pytest.param([Point(10, 1), Point(20, 6)], Gain(5, 10), id="scrapes at the edges"),
        pytest.param([Point(5, 0), Point(25, 20)], Gain(10, 10), id="scrapes outside are spread evenly"),
        pytest.param([Point(0, 3), Point(8, 4), Point(30, 4)], Gain(0, 10), id="no gain is known to be none"),
        pytest.param([Point(10, 100), Point(15, 110), Point(20, 4)], Gain(14, 10), id="a lower value is a restart"),
        pytest.param(
            [Point(10, 2, 0), Point(20, 8, 15)], Gain(8, 5), id="a later start too, though the value is higher"
        ),
        pytest.param([Point(18, 6, 12)], Gain(6, 6), id="a process that began in the window"),
        pytest.param([Point(10, 1), Point(12, 3)], Gain(2, 2), id="a late scrape leaves the rest unknown"),
        pytest.param([Point(10, 1), Point(15, math.nan), Point(20, 6)], Gain(5, 10), id="no number is no scrape"),
    ],
)
def test_gains_of_ten_seconds(points: list[Point], found: Gain) -> None:
    assert gain(points, 10, 20) == pytest.approx(found)


@given(st.lists(st.tuples(AT, st.floats(0, 1e6)), unique_by=lambda one: one[0]), AT, AT, AT)
def test_gains_add_up_over_adjoining_windows(told: list[tuple[float, float]], a: float, b: float, c: float) -> None:
    points = [Point(*one) for one in sorted(told)]
    start, middle, end = sorted((a, b, c))
    parts = gain(points, start, middle), gain(points, middle, end)

    assert gain(points, start, end).amount == pytest.approx(sum(one.amount for one in parts), abs=1e-3)
    assert gain(points, start, end).seconds == pytest.approx(sum(one.seconds for one in parts), abs=1e-6)


@given(
    st.lists(st.tuples(AT, st.floats(allow_nan=True, allow_infinity=True), st.none() | AT)),
    AT,
    st.floats(0.001, 100),
)
def test_no_scrapes_whatever_make_a_gain_negative_or_longer_than_the_window(
    told: list[tuple[float, float, float | None]], start: float, length: float
) -> None:
    found = gain([Point(*one) for one in sorted(told, key=lambda one: one[0])], start, start + length)

    assert found.amount >= 0
    assert 0 <= found.seconds <= length * (1 + 1e-9) + 1e-9


@pytest.mark.parametrize(
    ("buckets", "share", "value"),
    [
        pytest.param({}, 0.5, None, id="no buckets"),
        pytest.param({1: 0, math.inf: 0}, 0.5, None, id="no observation"),
        pytest.param({1: 10, math.inf: 10}, 0.5, 0.5, id="within the first, from 0"),
        pytest.param({1: 5, 3: 10, math.inf: 10}, 0.75, 2.0, id="within a later one"),
        pytest.param({1: 5, math.inf: 10}, 0.9, 1.0, id="beyond the last bound, that bound"),
        pytest.param({1: 5, 2: 4, 3: 10, math.inf: 10}, 0.75, 2.5, id="counts of different moments"),
    ],
)
def test_quantiles(buckets: dict[float, float], share: float, value: float | None) -> None:
    assert quantile(buckets, share) == (None if value is None else pytest.approx(value))


@given(st.dictionaries(st.floats(0.001, 100), st.floats(0, 1e6)), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_a_higher_share_is_never_lower(buckets: dict[float, float], one: float, other: float) -> None:
    low, high = quantile(buckets, min(one, other)), quantile(buckets, max(one, other))

    assert (low is None) == (high is None)
    assert low is None or high is None or low <= high + 1e-9
