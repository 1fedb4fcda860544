"""Alarms that last: `k` of the last `n` windows above the threshold, and a baseline that follows slow drift."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Vector = NDArray[np.float64]

BLOCKS_PER_DAY = 48


@dataclass(frozen=True)
class Persistence:
    """How long a score has to stay high, in windows."""

    k: int = 2
    n: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.k <= self.n:
            raise ValueError(f"1 <= k <= n does not hold: {self.k}, {self.n}")

    def lasting(self, scores: Vector) -> Vector:
        """The `k`-th highest of the last `n` scores: above a level exactly where `k` of `n` scores are.

        Shape (rows,) in and out; rows before the first count as lower than any.
        """
        padded = np.concatenate((np.full(self.n - 1, -np.inf), scores))
        windows = sliding_window_view(padded, self.n)
        return np.asarray(np.partition(windows, self.n - self.k, axis=1)[:, self.n - self.k])


@dataclass(frozen=True)
class Drift:
    """What counts as usual right now, after DSPOT (Siffer et al., KDD 2017), which subtracts a moving average.

    A quantile of the last day's half hours instead of an average: an incident of less than the quantile's remainder
    of a day (1.2 hours at 0.95) does not become usual, and the hours that are high every day do.
    """

    quantile: float = 0.95

    def usual(self, scores: Vector, rows_per_block: int, start: float) -> Vector:
        """The baseline of each row, from rows before its half hour only; shape (rows,) in and out.

        `start` stands for the half hours before the first.
        """
        whole = len(scores) // rows_per_block
        medians = np.median(scores[: whole * rows_per_block].reshape(whole, rows_per_block), axis=1)
        padded = np.concatenate((np.full(BLOCKS_PER_DAY, start), medians))
        usual = np.quantile(sliding_window_view(padded, BLOCKS_PER_DAY), self.quantile, axis=1)
        return np.repeat(usual, rows_per_block)[: len(scores)]
