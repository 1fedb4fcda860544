"""Alarms that last, and a baseline that follows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.detector.persistence import Drift, Persistence


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=40),
    st.integers(1, 6).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))),
    st.integers(-1, 9),
)
def test_above_a_level_exactly_where_k_of_the_last_n_are(values: list[int], rule: tuple[int, int], level: int) -> None:
    k, n = rule
    lasting = Persistence(k, n).lasting(np.array(values, dtype=float))

    counted = [sum(value > level for value in values[max(0, row + 1 - n) : row + 1]) >= k for row in range(len(values))]
    assert (lasting > level).tolist() == counted


def test_k_is_at_most_n() -> None:
    with pytest.raises(ValueError, match="1 <= k <= n"):
        Persistence(3, 2)


def test_the_usual_follows_a_step_only_after_its_share_of_a_day() -> None:
    scores = np.concatenate((np.zeros(480), np.ones(480)))
    usual = Drift(0.9).usual(scores, rows_per_block=10, start=0.0)

    assert usual[: 480 + 20].max() == 0
    assert usual[-1] == 1


@given(st.integers(1, 500), st.integers(1, 20), st.integers(0, 1000))
def test_the_usual_knows_nothing_of_its_own_half_hour_or_later(rows: int, block: int, seed: int) -> None:
    scores = np.random.default_rng(seed).normal(size=rows)
    cut = rows // 2
    changed = scores.copy()
    changed[cut:] += 100

    before, after = (Drift().usual(values, block, start=0.0) for values in (scores, changed))
    known = (cut // block + 1) * block
    assert len(before) == rows
    assert (before[:known] == after[:known]).all()
