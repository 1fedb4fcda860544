"""A curve that follows the metrics of running replicas."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import median

import numpy as np

from pilotlight.recommender._regression import Sums
from pilotlight.recommender.curve import Curve, Point
from pilotlight.recommender.fitting import HUBER, LEAST_EXPECTED, fit

_GATE = 4.0  # standard deviations from which a measurement does not count, unless it comes again
_PERSISTENT = 3  # of those in a row on one side: the machine has changed, not the measurement


def observe(curve: Curve, point: Point, memory: float = 100.0) -> Curve:
    """The curve after one more measurement.

    One that is far off counts little, or not at all. Several of those in a row on one side mean that the machine has
    changed: the curve then takes their height, keeps its shape, and believes itself no more than a few measurements.

    Args:
        curve: The state so far.
        point: The measurement; one that is not finite or not above zero changes nothing.
        memory: Measurements after which an old one counts 1/e.
    """
    if not point.usable:
        return curve
    if not curve.measured:
        return fit([point], curve.prior, curve.usual_noise)
    distance = _distance(curve, point)
    if abs(distance) > _GATE:
        outliers = (*(old for old in curve.outliers if _distance(curve, old) * distance > 0), point)
        return _moved(curve, outliers) if len(outliers) >= _PERSISTENT else replace(curve, outliers=outliers)
    weight = min(1.0, HUBER / max(abs(distance), HUBER))
    return replace(curve, sums=curve.sums.times(math.exp(-1 / memory)) + _one(curve, point, weight), outliers=())


def moved(curve: Curve) -> Curve:
    """The curve at the height of its last outliers, however few: others know that the machine has changed.

    A controller that keeps a latency where it was promised may see the old latency at a new load; single measurements
    then look as if nothing had changed.
    """
    return _moved(curve, curve.outliers) if curve.outliers else curve


def _moved(curve: Curve, outliers: tuple[Point, ...]) -> Curve:
    ratio = median(point.seconds / curve.at(point.load).value for point in outliers)
    kept = min(1.0, len(outliers) / curve.measured)
    return replace(curve, sums=curve.sums.times(kept), scale=curve.scale * ratio, outliers=())


def _distance(curve: Curve, point: Point) -> float:
    """How far off a measurement is, in standard deviations of the logarithm; the curve's own doubt counts in."""
    estimate = curve.at(point.load)
    sigma = max(curve.usual_noise, (estimate.high - estimate.value) / estimate.value / 2)
    return math.log(point.seconds / estimate.value) / sigma


def _one(curve: Curve, point: Point, weight: float) -> Sums:
    expected = max(curve.at(point.load).value / curve.scale, LEAST_EXPECTED)
    row, target = curve.row(point.load) / expected, point.seconds / curve.scale / expected
    return Sums.of(row[None, :], np.array([target]), np.array([weight]))
