"""Thresholds from the tail of normal scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotlight.detector.threshold import alarm_level, block_maxima, pareto, tail_level


@pytest.mark.parametrize("shape", [-0.4, 0.0, 0.3])
def test_the_tail_is_that_of_the_values(shape: float) -> None:
    drawn = np.random.default_rng(4).random(20_000)
    excesses = -np.log(drawn) if shape == 0 else (drawn**-shape - 1) / shape

    assert pareto(2 * excesses) == pytest.approx((shape, 2.0), abs=0.1)


def test_a_level_beyond_all_that_was_seen_is_near_the_true_one() -> None:
    values = np.random.default_rng(5).exponential(size=50_000)

    assert tail_level(values, 1e-6, 0.02) == pytest.approx(-np.log(1e-6), rel=0.2)
    assert tail_level(values, 0.1, 0.02) == pytest.approx(np.quantile(values, 0.9))


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.floats(1e-6, 0.5), st.floats(1.0, 10.0))
def test_rarer_is_never_lower(seed: int, probability: float, times: float) -> None:
    values = np.random.default_rng(seed).standard_t(4, size=500)

    assert tail_level(values, probability / times, 0.05) >= tail_level(values, probability, 0.05) - 1e-9


def test_equal_scores_have_their_value_as_level() -> None:
    assert tail_level(np.full(100, 3.0), 1e-4, 0.05) == 3.0


def test_the_level_lets_through_as_many_hours_a_day_as_it_was_asked_for() -> None:
    generator = np.random.default_rng(6)
    normal, later = generator.gumbel(size=(2, 24 * 60 * 12))
    level = alarm_level(normal, rows_per_hour=12, alarms_per_day=2)

    hours = block_maxima(later, 12) > level
    assert hours.sum() / 60 == pytest.approx(2, rel=0.25)


def test_bad_requests_are_told() -> None:
    with pytest.raises(ValueError, match="alarms_per_day"):
        alarm_level(np.zeros(24), 1, 0)
    with pytest.raises(ValueError, match="at least one"):
        tail_level(np.zeros(0), 0.1, 0.1)


def test_a_short_series_is_one_block() -> None:
    assert block_maxima(np.array([1.0, 5.0]), 12).tolist() == [5.0]
    assert block_maxima(np.arange(7, dtype=np.float64), 3).tolist() == [2.0, 5.0]
