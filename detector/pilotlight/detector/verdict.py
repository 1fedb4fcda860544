"""What the detector says of a window, and which metrics made it say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pilotlight.detector.metrics import Role
from pilotlight.detector.values import Health

NAMED = 5
"""Metrics that a verdict names at most."""


@dataclass(frozen=True)
class Verdict:
    """One window's."""

    health: Health
    score: float
    """Lasting excess over what is usual; see `alarming.py`. NaN: nothing is known of the window."""
    threshold: float
    """Above it the window is unusual."""
    attribution: Mapping[str, float]
    """Shares of the score by metric, the largest first; below 0 where a metric is lower than expected."""


def verdict(
    excess: float, level: float, contributions: Mapping[str, float], roles: Mapping[str, Role], *, idle: bool
) -> Verdict:
    """Decide.

    Args:
        excess: The window's; NaN is no trouble, and no reason to shrink.
        level: The revision's.
        contributions: Signed shares of the score by metric.
        roles: Of the metrics; what has none counts as health.
        idle: Pressure is low.

    Unusual pressure is overload when it is high, and no trouble when it is low; all else that is unusual is degraded.
    """
    named = dict(sorted(contributions.items(), key=lambda one: -abs(one[1]))[:NAMED])
    pressure = sum(share for name, share in contributions.items() if roles.get(name) is Role.PRESSURE)
    if excess > level and not (idle and pressure < -0.5):
        return Verdict(Health.OVERLOAD if pressure > 0.5 else Health.DEGRADED, excess, level, named)
    return Verdict(Health.UNDERLOAD if idle else Health.NORMAL, excess, level, named)
