"""Windows that come one by one are judged as those of a whole series."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.detector.alarming import Alarming
from pilotlight.detector.persistence import Persistence
from pilotlight.detector.watching import Watch


@given(st.integers(0, 1000), st.sampled_from([(1, 1), (2, 3), (3, 5)]))
def test_one_by_one_is_as_all_at_once(seed: int, rule: tuple[int, int]) -> None:
    alarming = Alarming(minutes_per_row=10, persistence=Persistence(*rule))
    scores, usual = np.random.default_rng(seed).normal(size=(200, 3)), np.array([0.0, 1.0, -1.0])
    watch = Watch(alarming, usual)
    stepped = np.array([watch.step(row) for row in scores])

    for place, start in enumerate(usual):
        assert stepped[:, place] == pytest.approx(alarming.excess(scores[:, place], float(start)))


@given(st.integers(0, 1000))
def test_unknown_windows_change_nothing_for_those_that_are_known(seed: int) -> None:
    generator = np.random.default_rng(seed)
    alarming, scores = Alarming(minutes_per_row=10), generator.normal(size=120)
    torn = np.full(240, np.nan)
    torn[np.sort(generator.choice(240, 120, replace=False))] = scores
    watch = Watch(alarming, np.zeros(1))
    stepped = np.array([watch.step(np.array([value]))[0] for value in torn])

    assert np.isnan(stepped[np.isnan(torn)]).all()
    assert stepped[~np.isnan(torn)] == pytest.approx(alarming.excess(scores, 0.0))


def test_half_the_budget_of_alarms_needs_a_higher_level() -> None:
    excess = np.random.default_rng(7).gumbel(size=288 * 30)

    often, seldom = (Alarming(5, alarms_per_day=rate).level(excess) for rate in (1.0, 0.5))
    assert seldom > often
