"""A trained detector: one network for all revisions, and for each what is normal of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pilotlight.detector.alarming import Alarming
from pilotlight.detector.network import Network
from pilotlight.detector.scaling import Scaling, scaling_of

Rows = NDArray[np.float64]
Vector = NDArray[np.float64]

LEAST_SPREAD = 1e-3
"""In widths: a metric that the network expects perfectly does not make every grain of dust an alarm."""
LEAST_SCORE = 1e-6


@dataclass(frozen=True)
class Columns:
    """Which metrics are judged, and which are load: told to the network and never judged. Places in a row."""

    judged: tuple[int, ...]
    load: tuple[int, ...] = ()


@dataclass(frozen=True)
class Profile:
    """What is normal of one revision under one network."""

    scaling: Scaling
    """Of all metrics of a row."""
    bias: Vector
    """Mean residual of normal rows in widths, shape (judged,)."""
    spread: Vector
    """Standard deviation of the residuals, shape (judged,)."""
    usual: float = 0.0
    """Median score of normal rows."""
    level: float = np.inf
    """Excess above which there is an alarm."""


def stacked(profiles: Sequence[Profile]) -> Profile:
    """One profile whose arrays have a row for each of `profiles`, for rows of as many revisions. Its level is none."""
    centre, width, bias, spread = (
        np.stack(parts)
        for parts in (
            [one.scaling.centre for one in profiles],
            [one.scaling.width for one in profiles],
            [one.bias for one in profiles],
            [one.spread for one in profiles],
        )
    )
    return Profile(Scaling(centre, width), bias, spread)


def prior(profiles: Sequence[Profile]) -> Profile:
    """For a revision without a history: the median of what is normal of others. Raises ValueError without any."""
    if not profiles:
        raise ValueError("profiles: expected at least one, found none")
    all_of = stacked(profiles)
    return Profile(
        Scaling(np.median(all_of.scaling.centre, axis=0), np.median(all_of.scaling.width, axis=0)),
        np.median(all_of.bias, axis=0),
        np.median(all_of.spread, axis=0),
        float(np.median([one.usual for one in profiles])),
        float(np.median([one.level for one in profiles])),
    )


@dataclass(frozen=True)
class Model:
    """Scores rows of shape (rows, metrics), NaN where a metric is unknown."""

    names: tuple[str, ...]
    """Of the metrics of a row."""
    columns: Columns
    network: Network

    def surprises(self, rows: Rows, profile: Profile) -> Rows:
        """Residuals in units of normal residuals, shape (rows, judged); NaN where unknown."""
        return (residuals(self.network, self.columns, rows, profile.scaling) - profile.bias) / profile.spread

    def profile(self, normal: Rows, alarming: Alarming) -> Profile:
        """Learn what is normal of a revision from its rows, in time's order. Raises ValueError without known rows."""
        scaling = scaling_of(normal)
        left = residuals(self.network, self.columns, normal, scaling)
        some = np.where(np.isfinite(left).any(axis=0), left, 0.0)
        profile = Profile(scaling, np.nanmean(some, axis=0), np.maximum(np.nanstd(some, axis=0), LEAST_SPREAD))
        scores = score(self.surprises(normal, profile))
        scores = scores[np.isfinite(scores)]
        if not len(scores):
            raise ValueError("normal: expected at least one row with a known metric, found none")
        usual = float(np.median(scores))
        return replace(profile, usual=usual, level=alarming.level(alarming.excess(scores, usual)))


def residuals(network: Network, columns: Columns, rows: Rows, scaling: Scaling) -> Rows:
    """What the network did not expect of the judged metrics, in widths."""
    scaled = scaling.apply(rows)
    return network.residuals(scaled[:, columns.judged], scaled[:, columns.load])


def score(surprises: Rows) -> Vector:
    """The logarithm of the mean squared surprise over the known metrics, 0 where rows are as usual; shape (rows,).

    NaN where no metric is known.
    """
    known = np.isfinite(surprises)
    counts = known.sum(axis=1)
    squares = np.where(known, surprises, 0.0) ** 2
    means = squares.sum(axis=1) / np.maximum(counts, 1)
    return np.where(counts > 0, np.log(means + LEAST_SCORE), np.nan)
