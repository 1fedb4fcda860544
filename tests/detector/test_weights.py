"""A few labelled incidents raise what they show in, and leave the rest as it was."""

from __future__ import annotations

import numpy as np
import pytest

from pilotlight.detector.weights import teach

Rows = np.typing.NDArray[np.float64]


def normal(seed: int = 1) -> Rows:
    return np.random.default_rng(seed).normal(size=(2000, 5))


def incident(seed: int) -> Rows:
    """Shows in the second metric, a little."""
    rows = np.random.default_rng(seed).normal(size=(30, 5))
    rows[:, 1] += 3
    return rows


def test_without_labels_every_metric_counts_alike() -> None:
    taught = teach([], normal())

    assert taught.weights.tolist() == [1] * 5
    assert taught.score(np.full((1, 5), 2.0)) == pytest.approx(np.log(4), abs=1e-5)


def test_what_incidents_show_in_counts_more_with_every_label() -> None:
    shares = []
    for count in (1, 5, 20):
        weights = teach([incident(seed) for seed in range(count)], normal()).weights
        shares.append(weights[1] / weights.sum())

    assert 0.2 < shares[0] < shares[1] < shares[2]


def test_one_label_changes_little() -> None:
    weights = teach([incident(3)], normal()).weights

    assert weights.max() / weights.min() < 4


def test_a_taught_score_tells_incidents_better() -> None:
    def told(count: int) -> float:
        taught = teach([incident(seed) for seed in range(count)], normal())
        return float(np.mean(taught.score(incident(99)) > np.quantile(taught.score(normal(98)), 0.99)))

    assert told(10) > told(0)


def test_unknown_metrics_count_nothing() -> None:
    rows = incident(4)
    rows[:, 0] = np.nan
    taught = teach([rows], normal())

    assert np.isfinite(taught.weights).all()
    assert np.isfinite(taught.score(rows)).all()
