"""Which metrics make a score, and which way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]


def contributions(surprises: Rows, names: Sequence[str]) -> dict[str, float]:
    """Each metric's share of the squared surprise of some windows; below 0 where it was lower than expected.

    Args:
        surprises: Shape (windows, judged), in units of normal residuals; what is unknown contributes nothing.
        names: Of the judged metrics.

    The sizes sum to 1, or all are 0.
    """
    known = np.nan_to_num(surprises, nan=0.0)
    squares = (known**2).sum(axis=0)
    total = float(squares.sum())
    signs = np.where(known.sum(axis=0) < 0, -1.0, 1.0)
    return dict(zip(names, (signs * squares / (total or 1.0)).tolist(), strict=True))
