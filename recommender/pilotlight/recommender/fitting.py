"""A curve through measurements: robust, with the square root where it predicts better."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from pilotlight.recommender._regression import Sums, Vector
from pilotlight.recommender.curve import CURVED, LINEAR, LOWEST, USUAL_NOISE, Curve, Point, Prior, empty, start

HUBER = 2.0
"""Standard deviations from which a measurement counts less."""
_REJECTED = 6.0  # ... and from which it does not count
_ROUNDS, _CONVERGED = 12, 1e-3
LEAST_EXPECTED = 0.01
"""Of the curve's height: below, residuals are relative to this, or one tiny measurement would outweigh all others."""
_CURVED_LOADS = 4  # distinct loads from which cross-validation may choose the square root


def fit(points: Iterable[Point], prior: Prior | None = None, noise: float = USUAL_NOISE) -> Curve:
    """The curve through `points`, in any order.

    The square root is a term where leaving out one load after the other says that it predicts better. Outliers count
    little or nothing.

    Args:
        points: Measurements; those that are not finite or not above zero are passed over.
        prior: Expected seconds by load. Its height is taken from the measurements, its shape is believed as far as they
            allow; without measurements it is the curve.
        noise: Relative scatter that a measurement usually has.

    Raises:
        NoMeasurement: Neither a prior nor a usable measurement.
    """
    usable = sorted((point for point in points if point.usable), key=lambda point: (point.load, point.seconds))
    if not usable:
        return start(prior, noise)
    own = () if prior is None else ("prior",)
    straight = _robust(usable, (*own, *LINEAR), prior, noise)
    if len({point.load for point in usable}) < _CURVED_LOADS:
        return straight.curve
    curved = _robust(usable, (*own, *CURVED), prior, noise)
    return min(straight, curved, key=_Fit.left_out).curve


@dataclass(frozen=True, eq=False)
class _Fit:
    """A curve with the rows that it was summed from."""

    curve: Curve
    loads: Vector
    rows: Vector
    targets: Vector
    values: Vector
    weights: Vector

    def left_out(self) -> float:
        """Mean over the loads: median absolute error of the logarithm there, by the curve through the others."""
        errors = []
        for load in np.unique(self.loads):
            there = self.loads == load
            others = _summed(self.curve, self.rows, self.targets, self.values, np.where(there, 0.0, self.weights))
            values = np.maximum(self.rows[there] @ others.posterior.mean, LOWEST)
            errors.append(float(np.median(np.abs(np.log(self.targets[there] / values)))))
        return math.fsum(errors) / len(errors)


def _robust(points: Sequence[Point], terms: tuple[str, ...], prior: Prior | None, noise: float) -> _Fit:
    """Iteratively reweighted: each round measures the points against the curve of the round before."""
    centre = math.exp(math.fsum(math.log(point.load) for point in points) / len(points))
    height = median(point.seconds / (prior(point.load) if prior else 1.0) for point in points)
    blank = empty(terms, prior, centre, height * (prior(centre) if prior else 1.0), noise)
    rows = np.array([blank.row(point.load) for point in points])
    targets = np.array([point.seconds for point in points]) / blank.scale
    values, weights = targets, np.ones(len(points))
    curve = _summed(blank, rows, targets, values, weights)
    for _ in range(_ROUNDS):
        before, values = values, np.maximum(rows @ curve.posterior.mean, LOWEST)
        weights = _weights(np.log(targets / values), noise)
        curve = _summed(blank, rows, targets, values, weights)
        if np.allclose(before, values, rtol=_CONVERGED):
            break
    return _Fit(curve, np.array([point.load for point in points]), rows, targets, values, weights)


def _weights(residuals: Vector, noise: float) -> Vector:
    """Huber's (1964), and zero far out; the scale is the median absolute deviation, at least the usual noise."""
    sigma = max(noise, 1.4826 * float(np.median(np.abs(residuals))))
    distances = np.abs(residuals) / sigma
    return np.where(distances > _REJECTED, 0.0, HUBER / np.maximum(distances, HUBER))


def _summed(curve: Curve, rows: Vector, targets: Vector, expected: Vector, weights: Vector) -> Curve:
    """Residuals are relative to what is expected at each load."""
    expected = np.maximum(expected, LEAST_EXPECTED)
    return replace(curve, sums=Sums.of(rows / expected[:, None], targets / expected, weights))
