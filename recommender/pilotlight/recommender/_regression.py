"""The little linear algebra under `curve`: weighted sums of regressors, and what they say of the coefficients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

NOISE_WEIGHT = 4.0
"""How many measurements the usual noise counts for against the scatter that is seen."""
_NOISE_ROUNDS = 3
_ROUNDING = 1e-9
# Quantiles of Student's t where the expansion is too coarse.
_FEW_FREEDOMS = {1: 12.706, 2: 4.303, 3: 3.182}


@dataclass(frozen=True, eq=False)
class Sums:
    """The sufficient statistics of a linear regression with one noise for all."""

    gram: Vector
    """Regressors times regressors."""
    moment: Vector
    """Regressors times targets."""
    squares: float = 0.0
    """Targets times targets."""
    count: float = 0.0
    """Measurements, by weight."""

    @staticmethod
    def of(rows: Vector, targets: Vector, weights: Vector) -> Sums:
        weighted = rows * weights[:, None]
        return Sums(weighted.T @ rows, weighted.T @ targets, float(weights @ targets**2), float(weights.sum()))

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.gram + other.gram,
            self.moment + other.moment,
            self.squares + other.squares,
            self.count + other.count,
        )

    def times(self, share: float) -> Sums:
        return Sums(self.gram * share, self.moment * share, self.squares * share, self.count * share)


@dataclass(frozen=True, eq=False)
class Posterior:
    """Coefficients, how sure they are, and the standard deviation of one measurement."""

    mean: Vector
    covariance: Vector
    noise: float


@dataclass(frozen=True, eq=False)
class Belief:
    """What is expected of coefficients and noise before anything was measured."""

    start: Vector
    spread: Vector
    """Standard deviations of the coefficients."""
    noise: float
    """Standard deviation of one measurement; counts for `NOISE_WEIGHT` of them, as an inverse gamma would."""


def posterior(sums: Sums, belief: Belief) -> Posterior:
    """Normal coefficients that are not negative; the noise is found together with them, in a few rounds."""
    noise = belief.noise
    mean, covariance = belief.start, np.diag(belief.spread**2)
    for _ in range(_NOISE_ROUNDS):
        mean, covariance = coefficients(sums, belief, noise)
        residuals = max(0.0, float(sums.squares - 2 * sums.moment @ mean + mean @ sums.gram @ mean))
        spent = float(np.trace(covariance @ sums.gram)) / noise**2
        freedom = NOISE_WEIGHT + max(0.0, sums.count - spent)
        noise = math.sqrt((NOISE_WEIGHT * belief.noise**2 + residuals) / freedom)
    return Posterior(mean, covariance, noise)


def coefficients(sums: Sums, belief: Belief, noise: float) -> tuple[Vector, Vector]:
    """Mode and covariance where the noise is known."""
    precision = np.diag(belief.spread**-2) + sums.gram / noise**2
    return non_negative(precision, belief.spread**-2 * belief.start + sums.moment / noise**2)


def non_negative(precision: Vector, information: Vector) -> tuple[Vector, Vector]:
    """Mode and covariance of a Gaussian kept to coefficients that are not negative.

    Exact: the mode is the one choice of free coefficients whose solution has nothing negative, and whose density would
    fall with every coefficient that is held at zero (Karush, Kuhn, Tucker). The largest choices are tried first; there
    are at most sixteen. The covariance is that of the free coefficients.

    Args:
        precision: Positive definite, at most 4 x 4.
        information: Precision times the mean of the unbounded Gaussian.
    """
    size = len(information)
    for count in range(size, 0, -1):
        for free in combinations(range(size), count):
            block = precision[np.ix_(free, free)]
            mode = np.zeros(size)
            mode[list(free)] = np.linalg.solve(block, information[list(free)])
            slope = information - precision @ mode
            slope[list(free)] = 0.0
            if mode.min() >= 0 and slope.max() <= _ROUNDING * np.abs(information).max():
                covariance = np.zeros((size, size))
                covariance[np.ix_(free, free)] = np.linalg.inv(block)
                return mode, covariance
    return np.zeros(size), np.zeros((size, size))


def student_t(freedom: float) -> float:
    """The 97.5 % quantile of Student's t, within 0.3 %; a fraction below four degrees of freedom is rounded down.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5 (expansion around the normal quantile).
    """
    if freedom < 4:
        return _FEW_FREEDOMS[max(1, int(freedom))]
    z = 1.959964
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom ** (power + 1) for power, term in enumerate(terms))
