"""A latency by load, with its uncertainty: Bayesian regression, from no measurement to very many.

    seconds(x) = s * prior(x) + a + c * sqrt(x) + b * x,   no coefficient below zero

The state is the regression's sums: an observation is an addition (`online.observe`), many are a sum (`fitting.fit`).
Residuals are relative to the curve, which is least squares with weights 1 / seconds^2. As nothing is negative, the
curve never falls with the load, and stays above zero wherever it is asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from pilotlight.recommender._regression import NOISE_WEIGHT, Belief, Posterior, Sums, Vector, posterior, student_t
from pilotlight.recommender.errors import RecommenderError

End = Literal["low", "value", "high"]
"""Of an estimate."""
Prior = Callable[[float], float]
"""Seconds by load; above zero, and never falling with the load."""

LINEAR = ("constant", "linear")
CURVED = ("constant", "root", "linear")
USUAL_NOISE = 0.035
"""Relative scatter of a measurement, before any was seen."""
LOWEST = 1e-9
"""Of the curve's height: no latency is below."""
# How far each coefficient may be from where it starts, in units of the curve's own height. With a prior the other terms
# correct its shape; without one they are free.
_HEIGHT, _CORRECTION, _FREE = 0.5, 0.25, 30.0
_ZERO_SHOT = 2.0  # factor either way that a prior may be off before anything was measured: docs/recommender.md


class NoMeasurement(RecommenderError):  # noqa: N818 - a verdict, not a failure
    """A curve was asked for with neither a prior nor a usable measurement."""


@dataclass(frozen=True)
class Point:
    """One measurement."""

    load: float  # requests in flight; or prompt tokens times requests in flight
    seconds: float

    @property
    def usable(self) -> bool:
        return 0 < self.load < math.inf and 0 < self.seconds < math.inf


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % predictive interval: where the next measurement will be."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Curve:
    """What is known of a latency; made by `start`, `fitting.fit` and `online.observe`, never changed."""

    terms: tuple[str, ...]
    prior: Prior | None
    centre: float
    """Load in one unit of the regression."""
    scale: float
    """Seconds in one unit of the regression."""
    usual_noise: float
    sums: Sums
    outliers: tuple[Point, ...] = ()
    """The last measurements, where they were far off in a row and on one side."""

    @property
    def measured(self) -> float:
        """Measurements that this rests on, by weight; forgotten ones count less."""
        return self.sums.count

    @property
    def noise(self) -> float:
        """Relative standard deviation of one measurement."""
        return self.posterior.noise

    @property
    def belief(self) -> Belief:
        """Before anything was measured."""
        own = np.array([name == "prior" for name in self.terms])
        free = np.full(len(own), _CORRECTION if own.any() else _FREE)
        return Belief(own.astype(float), np.where(own, _HEIGHT, free), self.usual_noise)

    @cached_property
    def posterior(self) -> Posterior:
        """In the regression's units."""
        return posterior(self.sums, self.belief)

    def at(self, load: float) -> Estimate:
        """Seconds at a load above zero."""
        known, row = self.posterior, self.row(load)
        value = max(float(row @ known.mean), LOWEST)
        if not self.measured:
            return Estimate(value * self.scale, value / _ZERO_SHOT * self.scale, value * _ZERO_SHOT * self.scale)
        spread = math.sqrt(max(0.0, float(row @ known.covariance @ row)) + (known.noise * value) ** 2)
        reach = student_t(NOISE_WEIGHT + max(0.0, self.measured - 1)) * spread
        return Estimate(value * self.scale, max(LOWEST, value - reach) * self.scale, (value + reach) * self.scale)

    def within(self, seconds: float, most: int, end: End = "high", unit: float = 1.0) -> int:
        """The most requests in flight, up to `most`, at which this latency is within `seconds`; 0 where none are.

        Args:
            seconds: The bound.
            most: Where the search ends.
            end: Of the interval, or the value itself, that holds the bound.
            unit: Load of one request.
        """
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            latency: float = getattr(self.at(middle * unit), end)
            low, high = (middle, high) if latency <= seconds else (low, middle - 1)
        return low

    def row(self, load: float) -> Vector:
        """The regressors at a load."""
        unit = load / self.centre
        regressors = {"constant": 1.0, "root": math.sqrt(unit), "linear": unit}
        if self.prior is not None:
            regressors["prior"] = self.prior(load) / self.prior(self.centre)
        return np.array([regressors[name] for name in self.terms])


def empty(terms: tuple[str, ...], prior: Prior | None, centre: float, scale: float, noise: float) -> Curve:
    """A curve of this height at this load, and nothing measured."""
    size = len(terms)
    return Curve(terms, prior, centre, scale, noise, Sums(np.zeros((size, size)), np.zeros(size)))


def start(prior: Prior | None, noise: float = USUAL_NOISE) -> Curve:
    """The curve before anything was measured.

    Raises:
        NoMeasurement: There is no prior to start from.
    """
    if prior is None:
        raise NoMeasurement("there is neither a measurement nor an estimate to start from; measure one point first")
    return empty(("prior", *LINEAR), prior, 1.0, prior(1.0), noise)
