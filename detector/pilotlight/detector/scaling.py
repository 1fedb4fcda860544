"""Every revision's metrics on one scale, so that one model can read them all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Scaling:
    """A metric x is read as (x - centre) / width; both of shape (metrics,). Unknown (NaN) stays unknown."""

    centre: Vector
    width: Vector

    def apply(self, rows: Rows) -> Rows:
        """Rows of shape (rows, metrics), about 0 and of width 1 where they are usual."""
        return (rows - self.centre) / self.width


def scaling_of(rows: Rows) -> Scaling:
    """The median and the standard deviation of each metric in normal rows of shape (rows, metrics).

    The middle is robust and the width is not: metrics that rest at 0 and leave it now and then have no inner width.
    A metric that never changed, or was never known, keeps its unit, so that a first change of it shows.
    """
    known = np.isfinite(rows)
    some = known.any(axis=0)
    filled = np.where(known | ~some, rows, np.nan)
    filled[:, ~some] = 0.0
    centre, width = np.nanmedian(filled, axis=0), np.nanstd(filled, axis=0)
    constant = width < 1e-6 * np.maximum(1, np.abs(centre))
    return Scaling(centre, np.where(constant, 1.0, width))
