"""What a few labelled incidents teach: how much each metric's surprise counts, starting from all alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
Vector = NDArray[np.float64]

STEPS = 300
RATE = 0.05
PRIOR = 0.5
"""Standard deviation of a weight's logarithm before any label: a factor of 1.6 up or down is no surprise."""
_TINY = 1e-6


@dataclass(frozen=True)
class Taught:
    """Factors of the squared surprises, shape (judged,); all 1 without labels."""

    weights: Vector

    def score(self, surprises: Rows) -> Vector:
        """The logarithm of the weighted mean squared surprise; shape (rows,)."""
        return np.asarray(np.log(squares(surprises) @ self.weights / len(self.weights) + _TINY))


def teach(incidents: Sequence[Rows], normal: Rows) -> Taught:
    """The most probable weights: logistic regression on the score, with a prior that every weight is 1.

    Args:
        incidents: Surprises of each labelled incident, shape (rows, judged); each counts as much as any other, and the
            half of its rows that score lowest now does not count, since labels reach beyond what shows.
        normal: Surprises of normal rows, which count together as much as all incidents.
    """
    judged = normal.shape[1]
    if not incidents:
        return Taught(np.ones(judged))
    shown = [_upper_half(rows) for rows in incidents]
    rows = squares(np.concatenate([*shown, normal])) / judged
    odd = np.concatenate([*(np.ones(len(one)) for one in shown), np.zeros(len(normal))])
    counts = np.concatenate(
        [*(np.full(len(one), 1 / len(one)) for one in shown), np.full(len(normal), len(shown) / len(normal))]
    )
    return Taught(np.exp(_ascend(rows, odd, counts)))


def _upper_half(rows: Rows) -> Rows:
    sums = squares(rows).sum(axis=1)
    return np.asarray(rows[sums >= np.median(sums)])


def _ascend(rows: Rows, odd: Vector, counts: Vector) -> Vector:
    """Logarithms of the weights by Adam's steps on the posterior, with a slope and an offset of their own."""
    place = np.concatenate((np.zeros(rows.shape[1]), [1.0, 1.0]))
    momentum, scale = np.zeros_like(place), np.zeros_like(place)
    for step in range(1, STEPS + 1):
        gradient = _gradient(place, rows, odd, counts)
        momentum = 0.9 * momentum + 0.1 * gradient
        scale = 0.99 * scale + 0.01 * gradient**2
        place = place + RATE * (momentum / (1 - 0.9**step)) / (np.sqrt(scale / (1 - 0.99**step)) + 1e-8)
    return np.asarray(place[:-2])


def _gradient(place: Vector, rows: Rows, odd: Vector, counts: Vector) -> Vector:
    logs, slope, offset = place[:-2], place[-2], place[-1]
    weighted = rows * np.exp(logs)
    sums = weighted.sum(axis=1) + _TINY
    centred = np.log(sums) - offset
    missed = counts * (odd - 1 / (1 + np.exp(-slope * centred)))
    by_log = (missed * slope / sums) @ weighted - logs / PRIOR**2
    return np.concatenate((by_log, [missed @ centred, -slope * missed.sum()]))


def squares(surprises: Rows) -> Rows:
    """Squared surprises, 0 where unknown."""
    return np.nan_to_num(surprises, nan=0.0) ** 2
