"""The learned keep-alive: between its bounds, and the one that would have cost least."""

from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.detector.keepalive import Gaps, Worth, keep_alive, observe

USUAL = Worth()


def learned(gaps: list[float], worth: Worth = USUAL) -> float:
    known = Gaps(worth)
    for gap in gaps:
        known = observe(known, gap)
    return keep_alive(known)


def test_the_usual_keep_alive_until_enough_is_known() -> None:
    assert learned([100.0] * 7) == 300.0


def test_a_function_that_is_always_called_again_soon_is_kept_just_so_long() -> None:
    assert 100 <= learned([100.0] * 50) <= 120


def test_a_function_that_is_never_called_again_in_time_is_kept_no_longer_than_it_must() -> None:
    assert learned([20_000.0] * 50) == 60.0


def test_what_is_worth_more_is_kept_longer() -> None:
    gaps = [70.0, 1000.0] * 25

    assert learned(gaps, Worth(cold=300)) < 100 < 1000 < learned(gaps, Worth(cold=5000))


def test_old_habits_are_forgotten() -> None:
    assert learned([20_000.0] * 200 + [100.0] * 300) < 130


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=60))
def test_stays_within_its_bounds_whatever_it_is_told(gaps: list[float]) -> None:
    assert 60.0 <= learned(gaps) <= 1800.0


@given(st.lists(st.floats(61, 5000), min_size=20, max_size=60))
def test_costs_hardly_more_than_the_best_fixed_one(gaps: list[float]) -> None:
    def cost(kept: float) -> float:
        return sum(gap if gap <= kept else kept + 600 for gap in gaps)

    # Old gaps weigh less, and bins have a width; both are bounded by how much the gaps differ.
    best = min(cost(kept) for kept in Gaps(Worth()).edges)
    assert cost(learned(gaps)) <= 1.35 * best


@pytest.mark.parametrize("gap", [nan, inf, -1.0, 59.0])
def test_gaps_that_say_nothing_change_nothing(gap: float) -> None:
    known = observe(Gaps(Worth()), 100.0)

    assert observe(known, gap) == known


def test_bounds_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="low"):
        Worth(low=400.0)
