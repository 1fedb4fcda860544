"""How fast the number of replicas may change: a token bucket of changes."""

from __future__ import annotations

from pilotlight.detector.trouble import elapsed
from pilotlight.detector.values import Limits, State


def changes(state: State, limits: Limits, now: float) -> float | None:
    """Replicas that may come or go now; a bucket that fills in a minute. None: any number."""
    rate = limits.changes_per_minute
    if rate is None:
        return None
    full = max(1.0, rate)
    left = full if state.changes is None else state.changes
    return min(full, max(0.0, left) + rate / 60 * elapsed(state, now))


def paced(current: int, wanted: int, allowed: float | None) -> int:
    """As near to `wanted` as the changes allow."""
    if allowed is None:
        return wanted
    most = int(allowed)
    return min(max(wanted, current - most), current + most)
