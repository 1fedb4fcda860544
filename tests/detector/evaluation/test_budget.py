"""Labels come from the first part of each series, and the rest is judged."""

from __future__ import annotations

import numpy as np
import pytest

from pilotlight.detector.evaluation.budget import BUDGETS, cut, incidents, lessons
from pilotlight.detector.evaluation.learned import Surprises
from pilotlight.detector.evaluation.measures import auc_pr
from pilotlight.detector.evaluation.series import Series

ROWS = 1000


@pytest.fixture
def entity() -> tuple[Series, Surprises]:
    """Incidents of 10 rows every 100 rows, a little in the first of four metrics."""
    generator = np.random.default_rng(1)
    train, test = generator.normal(size=(2, ROWS, 4))
    labels = np.arange(ROWS) % 100 >= 90
    test[labels, 0] += 2.5
    return Series("one", train, test, labels), Surprises(train, test)


def test_only_incidents_that_ended_before_the_cut_are_labelled(entity: tuple[Series, Surprises]) -> None:
    series, surprises = entity

    assert cut([series]) == [400]
    assert [rows.shape for rows in incidents([series], [surprises])] == [(10, 4)] * 4


def test_every_budget_is_scored_and_labels_help(entity: tuple[Series, Surprises]) -> None:
    series, surprises = entity
    found = lessons([series], [surprises], seed=0)
    areas = {
        name: [auc_pr(scores[0].test[400:], series.labels[400:]) for scores in by_count.values()]
        for name, by_count in found.items()
    }

    assert found.keys() == {"pilotlight", "logistic_regression"}
    assert all(tuple(by_count) == BUDGETS for by_count in found.values())
    assert areas["pilotlight"][0] == areas["logistic_regression"][0]
    assert areas["pilotlight"][-1] > areas["pilotlight"][0]
    assert areas["logistic_regression"][-1] > areas["logistic_regression"][0]
