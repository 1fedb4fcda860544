"""When a new model may serve: better on windows that neither model was trained on, and worse in nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotlight.detector.model import Model, Profile

Rows = NDArray[np.float64]


@dataclass(frozen=True)
class HeldBack:
    """What one model did on held-back windows, as a shadow or serving."""

    unlikeliness: float
    """See `unlikeliness`."""
    incidents_found: int
    """Labelled incidents with an alarm in them."""
    false_alarms: int
    """Started hours with an alarm beside them."""


def succeeds(candidate: HeldBack, current: HeldBack) -> bool:
    """Whether the candidate takes over. Equal models do not change places."""
    no_worse = candidate.incidents_found >= current.incidents_found and candidate.false_alarms <= current.false_alarms
    found_more = candidate.incidents_found > current.incidents_found
    return no_worse and (found_more or candidate.unlikeliness < current.unlikeliness)


def unlikeliness(model: Model, profile: Profile, normal: Rows) -> float:
    """Mean negative log-likelihood of a known metric of normal rows, in nats, as independent normal residuals.

    In the metrics' own units but for a constant, so that models with different scales can be compared. NaN when nothing
    is known.
    """
    surprises = model.surprises(normal, profile)
    widths = profile.spread * profile.scaling.width[list(model.columns.judged)]
    costs = 0.5 * surprises**2 + np.log(widths)
    known = np.isfinite(costs)
    return float(costs[known].mean()) if known.any() else float("nan")
