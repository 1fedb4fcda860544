"""Where a score begins to be alarming: peaks over threshold, from normal data alone.

SPOT (Siffer et al., KDD 2017) reads a threshold off the tail of the scores instead of their maximum, so that it can
be rarer than anything seen. Rows in a row are no independent draws, and what an operator bears is a number of alarms
per day and not of rows, so the tail here is that of the hours' highest scores: at a probability of `alarms / 24`, so
many hours a day hold an alarm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

HOURS = 24
PEAKS = 0.1
"""Share of the hours whose highest scores are taken for the tail."""
FEWEST_PEAKS = 8
"""With fewer, a tail has no shape that could be told; the quantile stands."""


def alarm_level(scores: Vector, rows_per_hour: int, alarms_per_day: float) -> float:
    """The score that normal data exceed in `alarms_per_day` hours of a day; `scores` of shape (rows,), one per window.

    Raises ValueError: there is no score, or `alarms_per_day` is not above 0 and at most 24.
    """
    if not 0 < alarms_per_day <= HOURS:
        raise ValueError(f"alarms_per_day: expected more than 0 and at most {HOURS}, found {alarms_per_day}")
    return tail_level(block_maxima(scores, rows_per_hour), alarms_per_day / HOURS, PEAKS)


def block_maxima(values: Vector, rows: int) -> Vector:
    """The highest of each `rows` values; a last, shorter block counts only when there is no other."""
    whole = len(values) // rows * rows
    if not whole:
        return np.array([values.max()])
    return np.asarray(values[:whole].reshape(-1, rows).max(axis=1))


def tail_level(values: Vector, probability: float, peaks: float) -> float:
    """The value exceeded with `probability`: a quantile, or beyond the share `peaks` a generalised Pareto tail.

    Raises ValueError: there are no values.
    """
    if not len(values):
        raise ValueError("values: expected at least one, found none")
    start = float(np.quantile(values, 1 - peaks))
    excesses = values[values > start] - start
    if probability >= peaks or len(excesses) < FEWEST_PEAKS:
        return float(np.quantile(values, 1 - probability))
    shape, scale = pareto(excesses)
    ratio = probability * len(values) / len(excesses)
    if abs(shape) < 1e-6:
        return start - scale * float(np.log(ratio))
    return start + scale / shape * float(ratio**-shape - 1)


def pareto(excesses: Vector) -> tuple[float, float]:
    """Shape and scale of a generalised Pareto distribution by probability-weighted moments.

    Hosking and Wallis, Technometrics 29 (1987), equations 7 and their plotting position: closed, and steadier
    than maximum likelihood with some dozens of peaks. The moments exist for shapes below 1/2, which bounds it.
    """
    ordered = np.sort(excesses)
    mean = float(ordered.mean())
    places = (np.arange(1, len(ordered) + 1) - 0.35) / len(ordered)
    weighted = float(np.mean((1 - places) * ordered))
    if mean <= 2 * weighted:  # equal peaks: all mass in one place
        return -1.0, mean
    shape = min(0.5, max(-1.0, 2 - mean / (mean - 2 * weighted)))
    return shape, mean * (1 - shape)
