"""What labels add: the detector after 0, 1, 5, 10 and 20 labelled incidents, beside a plain logistic regression.

Labels come from the first 40 % of each judged series; all budgets are judged on the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pilotlight.detector.evaluation.baselines import Rows, Scores, Vector
from pilotlight.detector.evaluation.learned import Surprises
from pilotlight.detector.evaluation.measures import spans
from pilotlight.detector.evaluation.series import Series
from pilotlight.detector.weights import squares, teach

BUDGETS = (0, 1, 5, 10, 20)
LABELLED_SHARE = 0.4
NORMAL_ROWS = 4000
"""Normal rows of all entities together that a lesson is taken from."""
_PENALTY = 1e-3
_NEWTON_STEPS = 20

Lesson = Callable[[Sequence[Rows], Rows], Callable[[Rows], Vector]]
"""From surprises in incidents and in normal rows to a score of surprises, at least 0."""


def cut(series: Sequence[Series]) -> list[int]:
    """The row of each test series from which it is judged."""
    return [int(len(one.labels) * LABELLED_SHARE) for one in series]


def incidents(series: Sequence[Series], surprises: Sequence[Surprises]) -> list[Rows]:
    """Surprises in each labelled event that lies in the first part of a test series."""
    return [
        one.test[start:end]
        for entity, one, first in zip(series, surprises, cut(series), strict=True)
        for start, end in spans(entity.labels[:first])
    ]


def lessons(series: Sequence[Series], surprises: Sequence[Surprises], seed: int) -> dict[str, dict[int, list[Scores]]]:
    """Scores of every entity by way of learning and number of labelled incidents, as many as there are at most."""
    generator = np.random.default_rng(seed)
    pool = incidents(series, surprises)
    pool = [pool[place] for place in generator.permutation(len(pool))]
    normal = np.concatenate([one.train for one in surprises])
    normal = normal[generator.choice(len(normal), min(NORMAL_ROWS, len(normal)), replace=False)]
    return {
        name: {count: _scores(lesson(pool[:count], normal), surprises) for count in BUDGETS}
        for name, lesson in LESSONS.items()
    }


def _scores(judge: Callable[[Rows], Vector], surprises: Sequence[Surprises]) -> list[Scores]:
    return [Scores(judge(one.train), judge(one.test)) for one in surprises]


def taught(labelled: Sequence[Rows], normal: Rows) -> Callable[[Rows], Vector]:
    """The detector's own way."""
    lesson = teach(labelled, normal)
    return lambda rows: np.asarray(np.exp(lesson.score(rows)))


def regression(labelled: Sequence[Rows], normal: Rows) -> Callable[[Rows], Vector]:
    """Logistic regression on the logarithms of the squared surprises: the odds. Without labels, the plain score."""
    if not labelled:
        return taught(labelled, normal)
    rows = np.concatenate([*labelled, normal])
    odd = np.concatenate([*(np.ones(len(one)) for one in labelled), np.zeros(len(normal))])
    counts = np.concatenate(
        [*(np.full(len(one), 1 / len(one)) for one in labelled), np.full(len(normal), len(labelled) / len(normal))]
    )
    weights = _newton(_features(rows), odd, counts)
    return lambda rows: np.asarray(np.exp(np.clip(_features(rows) @ weights, -30, 30)))


def _features(rows: Rows) -> Rows:
    return np.column_stack((np.log1p(squares(rows)), np.ones(len(rows))))


def _newton(features: Rows, odd: Vector, counts: Vector) -> Vector:
    weights = np.zeros(features.shape[1])
    penalty = _PENALTY * np.eye(len(weights))
    for _ in range(_NEWTON_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(features @ weights, -30, 30)))
        slope = features.T @ (counts * (odd - chance)) - penalty @ weights
        curve = (features * (counts * chance * (1 - chance))[:, None]).T @ features + penalty
        weights = weights + np.linalg.solve(curve, slope)
    return np.asarray(weights)


LESSONS: dict[str, Lesson] = {"pilotlight": taught, "logistic_regression": regression}
