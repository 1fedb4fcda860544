"""Scores to beat: each finds what it is made to find, and rules keep to the budget."""

from __future__ import annotations

import numpy as np
import pytest

from pilotlight.detector.evaluation.alarms import BUDGET, best_rule
from pilotlight.detector.evaluation.baselines import BASELINES, Scores
from pilotlight.detector.evaluation.measures import auc_pr

ROWS, METRICS = 1200, 4
Rows = np.typing.NDArray[np.float64]


@pytest.fixture(scope="module")
def normal() -> Rows:
    """Two pairs of metrics that move together."""
    generator = np.random.default_rng(1)
    causes = generator.normal(size=(ROWS, 2))
    return np.repeat(causes, 2, axis=1) + 0.1 * generator.normal(size=(ROWS, METRICS))


@pytest.fixture(scope="module")
def far(normal: Rows) -> tuple[Rows, np.typing.NDArray[np.bool_]]:
    """Some rows far from all that was seen."""
    rows, labels = normal[::-1].copy(), np.arange(ROWS) % 100 < 5
    rows[labels] += 6
    return rows, labels


def area(name: str, normal: Rows, rows: Rows, labels: np.typing.NDArray[np.bool_]) -> float:
    return auc_pr(BASELINES[name](normal, rows, np.random.default_rng(2)).test, labels)


@pytest.mark.parametrize("name", ["max_z", "l2", "knn", "iforest"])
def test_rows_far_from_all_are_found(name: str, normal: Rows, far: tuple[Rows, np.typing.NDArray[np.bool_]]) -> None:
    assert area(name, normal, *far) > 0.99


@pytest.mark.parametrize("name", ["pca", "knn"])
def test_metrics_that_part_company_are_found_though_each_is_usual(name: str, normal: Rows) -> None:
    rows, labels = normal[::-1].copy(), np.arange(ROWS) % 100 < 5
    rows[labels, 0] *= -1

    odd = labels & (np.abs(rows[:, 0]) > 1)
    assert area(name, normal, rows[odd | ~labels], odd[odd | ~labels]) > 0.95
    assert area("max_z", normal, rows, labels) < 0.2


@pytest.mark.parametrize("name", ["random", "enova_rules"])
def test_what_knows_nothing_has_the_precision_of_chance(
    name: str, normal: Rows, far: tuple[Rows, np.typing.NDArray[np.bool_]]
) -> None:
    assert area(name, normal, *far) < 0.1


@pytest.mark.parametrize("name", BASELINES)
def test_a_constant_metric_is_no_trouble(name: str, normal: Rows) -> None:
    rows = np.column_stack((normal, np.full(ROWS, 3.0)))
    scores = BASELINES[name](rows, rows[::-1], np.random.default_rng(0))

    assert np.isfinite(scores.train).all()
    assert np.isfinite(scores.test).all()


def test_a_remembered_row_is_not_its_own_neighbour(normal: Rows) -> None:
    scores = BASELINES["knn"](normal, normal, np.random.default_rng(0))

    assert scores.train.min() > 0
    assert np.quantile(scores.train, 0.5) > np.quantile(scores.test, 0.5)


def test_the_best_rule_is_within_the_budget_and_finds_what_stands_out() -> None:
    generator = np.random.default_rng(3)
    train, test = generator.normal(size=2880), generator.normal(size=2880)
    labels = np.zeros(2880, dtype=bool)
    for start in (500, 1500, 2500):
        labels[start : start + 20] = True
    found = best_rule([Scores(train, test + 8 * labels)], [labels], minutes_per_row=5)

    assert found.recall == 1
    assert found.false_alarms <= BUDGET
    assert found.delay == 0


def test_without_a_rule_in_the_budget_nothing_is_claimed() -> None:
    labels = np.arange(2880) % 500 < 3
    found = best_rule([Scores(np.zeros(2880), np.ones(2880))], [labels], minutes_per_row=5)

    assert (found.recall, found.false_alarms, found.rule) == (0, 0, "none")
