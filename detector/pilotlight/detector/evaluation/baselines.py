"""Scores to beat. Each takes normal rows and rows to score, and gives the scores of both: higher is odder.

All but ENOVA's rules see rows scaled by the normal rows' mean and standard deviation, and look at one row at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pilotlight.detector.evaluation.forest import forest_scores

Rows = NDArray[np.float64]
Vector = NDArray[np.float64]


class Scores(NamedTuple):
    """Of the normal rows and of those to judge; shapes (rows,)."""

    train: Vector
    test: Vector


Method = Callable[[Rows, Rows, np.random.Generator], Scores]

PCA_SHARE = 0.9
NEIGHBOURS = 5
REMEMBERED = 4000
"""Normal rows that are searched for neighbours."""
_CHUNK = 2000


def standardised(train: Rows, test: Rows) -> tuple[Rows, Rows]:
    """Rows less the mean of `train`, by its standard deviation; a constant metric keeps its unit."""
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    constant = deviation < 1e-6 * np.maximum(1, np.abs(mean))
    deviation = np.where(constant, 1.0, deviation)
    return (train - mean) / deviation, (test - mean) / deviation


def random(train: Rows, test: Rows, generator: np.random.Generator) -> Scores:
    """Chance: what a metric gives to a score that knows nothing."""
    return Scores(generator.random(len(train)), generator.random(len(test)))


def max_z(train: Rows, test: Rows, generator: np.random.Generator) -> Scores:
    """The metric that is farthest from its mean."""
    del generator
    normal, judged = standardised(train, test)
    return Scores(np.abs(normal).max(axis=1), np.abs(judged).max(axis=1))


def l2(train: Rows, test: Rows, generator: np.random.Generator) -> Scores:
    """The distance from the mean."""
    del generator
    normal, judged = standardised(train, test)
    return Scores(np.linalg.norm(normal, axis=1), np.linalg.norm(judged, axis=1))


def pca(train: Rows, test: Rows, generator: np.random.Generator) -> Scores:
    """The squared residual beside the components that hold 90 % of the variance."""
    del generator
    normal, judged = standardised(train, test)
    _, sizes, components = np.linalg.svd(normal, full_matrices=False)
    held = np.cumsum(sizes**2) / max(float(np.sum(sizes**2)), 1e-12)
    kept = components[: int(np.searchsorted(held, PCA_SHARE)) + 1]
    return Scores(*(np.mean((rows - rows @ kept.T @ kept) ** 2, axis=1) for rows in (normal, judged)))


def knn(train: Rows, test: Rows, generator: np.random.Generator) -> Scores:
    """The mean distance to the five nearest of up to 4,000 normal rows; a normal row is not its own neighbour."""
    normal, judged = (rows.astype(np.float32) for rows in standardised(train, test))
    chosen = generator.choice(len(normal), min(REMEMBERED, len(normal)), replace=False)
    remembered = normal[chosen]
    own, other = _nearest(normal, remembered), _nearest(judged, remembered)
    scores = own[:, :-1].mean(axis=1)
    scores[chosen] = own[chosen, 1:].mean(axis=1)
    return Scores(scores, other[:, :-1].mean(axis=1))


def _nearest(rows: NDArray[np.float32], remembered: NDArray[np.float32]) -> Rows:
    """Distances to the nearest, ascending, one more than is asked for; shape (rows, NEIGHBOURS + 1)."""
    found = [np.empty((0, NEIGHBOURS + 1))]
    squares = (remembered**2).sum(axis=1)
    for begin in range(0, len(rows), _CHUNK):
        part = rows[begin : begin + _CHUNK]
        distances = (part**2).sum(axis=1)[:, None] + squares - 2 * part @ remembered.T
        nearest = np.sort(np.partition(distances, NEIGHBOURS, axis=1)[:, : NEIGHBOURS + 1], axis=1)
        found.append(np.sqrt(np.maximum(nearest, 0)).astype(np.float64))
    return np.concatenate(found)


def iforest(train: Rows, test: Rows, generator: np.random.Generator) -> Scores:
    """Isolation forest: 100 trees of 256 rows."""
    both = forest_scores(train, np.concatenate((train, test)), generator)
    return Scores(both[: len(train)], both[len(train) :])


def enova_rules(train: Rows, test: Rows, generator: np.random.Generator) -> Scores:
    """ENOVA's public rules need queue, cache use and slots by name; a set without names gives them nothing to see."""
    del generator
    return Scores(np.zeros(len(train)), np.zeros(len(test)))


BASELINES: Mapping[str, Method] = {
    "pca": pca,
    "knn": knn,
    "max_z": max_z,
    "l2": l2,
    "iforest": iforest,
    "random": random,
    "enova_rules": enova_rules,
}
SEEDLESS = ("pca", "max_z", "l2", "enova_rules")
"""Of these a second run would be the first again."""
