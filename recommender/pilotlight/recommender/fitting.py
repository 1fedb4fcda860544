"""A curve through measurements: robust, with the square root where it predicts better."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from pilotlight.recommender._regression import Sums, Vector, coefficients
from pilotlight.recommender.curve import CURVED, LINEAR, LOWEST, USUAL_NOISE, Curve, Point, Prior, empty, start

HUBER = 2.0
"""Standard deviations from which a measurement counts less."""
_REJECTED = 6.0  # ... and from which it does not count
_ROUNDS, _CONVERGED = 12, 1e-3
LEAST_EXPECTED = 0.01
"""Of the curve's height: below, residuals are relative to this, or one tiny measurement would outweigh all others."""
_NORMAL_QUARTILE = 1.1503  # three quarters of a normal distribution lie within so many standard deviations
_LINE_POINTS = 100  # for a first line; of more, every so many-th
_CURVED_LOADS = 4  # distinct loads from which cross-validation may choose the square root


def fit(points: Iterable[Point], prior: Prior | None = None, noise: float = USUAL_NOISE) -> Curve:
    """The curve through `points`, in any order.

    The square root is a term where leaving out one load after the other says that it predicts better. Outliers count
    little or nothing; but where all that was measured at one end is wrong, there is nothing to tell it by.

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
        belief, noise, errors = self.curve.belief, self.curve.noise, []
        for load in np.unique(self.loads):
            there = self.loads == load
            others = _sums(self.rows, self.targets, self.values, np.where(there, 0.0, self.weights))
            values = np.maximum(self.rows[there] @ coefficients(others, belief, noise)[0], LOWEST)
            errors.append(float(np.median(np.abs(np.log(self.targets[there] / values)))))
        return math.fsum(errors) / len(errors)


def _robust(points: Sequence[Point], terms: tuple[str, ...], prior: Prior | None, noise: float) -> _Fit:
    """Iteratively reweighted: each round measures the points against the curve of the round before.

    The first is the prior at the measurements' median height, or without a prior a line.
    """
    centre = math.exp(math.fsum(math.log(point.load) for point in points) / len(points))
    height = median(point.seconds / (prior(point.load) if prior else 1.0) for point in points)
    blank = empty(terms, prior, centre, height * (prior(centre) if prior else 1.0), noise)
    rows = np.array([blank.row(point.load) for point in points])
    targets = np.array([point.seconds for point in points]) / blank.scale
    unfitted = _Fit(blank, np.array([point.load for point in points]), rows, targets, targets, np.ones(len(points)))
    found = _against(unfitted, rows[:, 0] if prior else _line(unfitted.loads, targets), noise)
    for _ in range(_ROUNDS):
        values = np.maximum(rows @ found.curve.posterior.mean, LOWEST)
        if np.allclose(values, found.values, rtol=_CONVERGED):
            break
        found = _against(found, values, noise)
    return found


def _against(fitted: _Fit, values: Vector, noise: float) -> _Fit:
    """The fit whose residuals and weights are those of the points against `values`."""
    weights = _weights(np.log(fitted.targets / values), noise)
    curve = replace(fitted.curve, sums=_sums(fitted.rows, fitted.targets, values, weights))
    return replace(fitted, curve=curve, values=values, weights=weights)


def _line(loads: Vector, targets: Vector) -> Vector:
    """A first line that outliers cannot pull: the median slope between two points (Theil 1950, Sen 1968)."""
    step = -(-len(loads) // _LINE_POINTS)
    some_loads, some_targets = loads[::step], targets[::step]
    one, other = np.triu_indices(len(some_loads), 1)
    apart = some_loads[one] < some_loads[other]
    one, other = one[apart], other[apart]
    slopes = (some_targets[other] - some_targets[one]) / (some_loads[other] - some_loads[one])
    slope = max(0.0, float(np.median(slopes))) if len(slopes) else 0.0
    constant = float(np.median(targets - slope * loads))
    return np.maximum(constant + slope * loads, LEAST_EXPECTED)


def _weights(residuals: Vector, noise: float) -> Vector:
    """Huber's (1964), and zero far out; in units of the smaller three quarters of the residuals, or the usual noise."""
    sigma = max(noise, float(np.quantile(np.abs(residuals), 0.75)) / _NORMAL_QUARTILE)
    distances = np.abs(residuals) / sigma
    return np.where(distances > _REJECTED, 0.0, HUBER / np.maximum(distances, HUBER))


def _sums(rows: Vector, targets: Vector, expected: Vector, weights: Vector) -> Sums:
    """Residuals are relative to what is expected at each load."""
    expected = np.maximum(expected, LEAST_EXPECTED)
    return Sums.of(rows / expected[:, None], targets / expected, weights)
