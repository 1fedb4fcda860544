"""From scores to alarms: less what is usual today, lasting, and above a level that normal data set."""

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
    persistence: Persistence = field(default_factory=Persistence)
    drift: Drift = field(default_factory=Drift)
    alarms_per_day: float = 0.5
    """Hours with an alarm that the normal data may have that the level is taken from. Half of the one a day that an
    operator bears: the other half is for what those data did not show."""

    @property
    def rows_per_block(self) -> int:
        return max(1, round(MINUTES_PER_DAY / BLOCKS_PER_DAY / self.minutes_per_row))

    def excess(self, scores: Vector, usual: float) -> Vector:
        """How far scores have lastingly been above what is usual; shape (rows,) in and out.

        `usual`: the score that counts as usual until half hours have passed.
        """
        return self.persistence.lasting(scores - self.drift.usual(scores, self.rows_per_block, usual))

    def level(self, normal: Vector) -> float:
        """The excess above which there is an alarm, from the excesses of normal data."""
        started = normal[self.persistence.n - 1 :]
        return alarm_level(started, max(1, round(60 / self.minutes_per_row)), self.alarms_per_day)
