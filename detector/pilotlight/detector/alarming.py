"""From scores to alarms: smoothed, less what is usual today, lasting, and above a level that normal data set."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pilotlight.detector.persistence import BLOCKS_PER_DAY, Drift, Persistence
from pilotlight.detector.threshold import alarm_level

Vector = NDArray[np.float64]

MINUTES_PER_DAY = 1440


@dataclass(frozen=True)
class Alarming:
    """How scores become alarms; lengths are in windows."""

    minutes_per_row: float
    smoothing: int = 3
    """Windows that a score is averaged over."""
    persistence: Persistence = field(default_factory=Persistence)
    drift: Drift = field(default_factory=Drift)
    alarms_per_day: float = 1.0
    """Hours with an alarm that normal data may have, per day."""

    @property
    def rows_per_block(self) -> int:
        return max(1, round(MINUTES_PER_DAY / BLOCKS_PER_DAY / self.minutes_per_row))

    def excess(self, scores: Vector, usual: float) -> Vector:
        """How far the last scores have been above what is usual; shape (rows,) in and out.

        `usual`: the score that counts as usual until half hours have passed.
        """
        smooth = trailing_mean(scores, self.smoothing)
        return self.persistence.lasting(smooth - self.drift.usual(smooth, self.rows_per_block, usual))

    def level(self, normal: Vector) -> float:
        """The excess above which there is an alarm, from the excesses of normal data."""
        started = normal[self.persistence.n - 1 :]
        return alarm_level(started, max(1, round(60 / self.minutes_per_row)), self.alarms_per_day)


def trailing_mean(values: Vector, rows: int) -> Vector:
    """The mean of the last `rows` values, of those that there are in the beginning; shape (rows,) in and out."""
    sums = np.cumsum(np.concatenate(([0.0], values)))
    ends = np.arange(1, len(values) + 1)
    begins = np.maximum(0, ends - rows)
    return np.asarray((sums[ends] - sums[begins]) / (ends - begins))
