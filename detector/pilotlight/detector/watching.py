"""Alarms of many revisions, one window at a time: the same numbers as `Alarming.excess`, without its past rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pilotlight.detector.alarming import Alarming
from pilotlight.detector.persistence import BLOCKS_PER_DAY

Rows = NDArray[np.float64]
Vector = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Watch:
    """What has to be remembered of each revision: a day of half hours' medians, and the last windows.

    Args:
        alarming: How scores become alarms.
        usual: Score of each revision's windows until half hours of its own have passed, shape (revisions,).
    """

    def __init__(self, alarming: Alarming, usual: Vector) -> None:
        count, block = len(usual), alarming.rows_per_block
        self._alarming = alarming
        self._medians = np.repeat(usual[:, None], BLOCKS_PER_DAY, axis=1)
        self._usual = usual.copy()
        self._block = np.zeros((count, block))
        self._filled = np.zeros(count, dtype=np.intp)
        self._last = np.full((count, alarming.persistence.n), -np.inf)

    def step(self, scores: Vector) -> Vector:
        """The excess of each revision's next window, shape (revisions,) in and out; NaN is not known, and forgotten."""
        known = np.isfinite(scores)
        _push(self._last, scores - self._usual, known)
        self._learn(scores, known)
        n, k = self._alarming.persistence.n, self._alarming.persistence.k
        return np.where(known, np.partition(self._last, n - k, axis=1)[:, n - k], np.nan)

    def _learn(self, scores: Vector, known: Flags) -> None:
        places = np.flatnonzero(known)
        self._block[places, self._filled[places]] = scores[places]
        self._filled[places] += 1
        whole = self._filled == self._block.shape[1]
        if whole.any():
            _push(self._medians, np.median(self._block, axis=1), whole)
            self._usual[whole] = np.quantile(self._medians[whole], self._alarming.drift.quantile, axis=1)
            self._filled[whole] = 0


def _push(queues: Rows, values: Vector, chosen: Flags) -> None:
    """The oldest value of the chosen rows goes, the new one comes last."""
    queues[chosen, :-1] = queues[chosen, 1:]
    queues[chosen, -1] = values[chosen]
