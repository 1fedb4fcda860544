"""Which metrics make a score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


def contributions(surprises: Vector, names: Sequence[str]) -> dict[str, float]:
    """Each metric's share of the squared surprise, 0..1; a metric that is unknown has none.

    `surprises` of shape (judged,), in units of normal residuals; the mean over the last windows names a lasting cause
    better than one window does.
    """
    squares = {name: float(value) ** 2 for name, value in zip(names, surprises, strict=True) if np.isfinite(value)}
    total = sum(squares.values())
    return {name: square / total for name, square in squares.items()} if total > 0 else {}
