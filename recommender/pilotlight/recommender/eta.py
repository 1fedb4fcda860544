"""How long a cold start takes, learned from the ones before it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

PHASES = ("schedule", "fetch", "import", "load", "warmup")
_REMEMBERED = 5  # starts per phase: enough for a median that one outlier cannot move, few enough to follow a change

# Priors for a revision that never started. Import and engine start: plain vLLM 0.32 on two shared cores takes 25-65 s
# from process to health, whatever the model; bytes: a network store at 200 MB/s and a loader at 500 MB/s.
_PRIOR_SECONDS = {"schedule": 0.2, "fetch": 0.5, "import": 25.0, "load": 12.0, "warmup": 3.0}
_PRIOR_RATES = {"fetch": 200e6, "load": 500e6}  # bytes per second


def start_eta(history: Sequence[Mapping[str, float]], weight_bytes: int) -> dict[str, float]:
    """Expected seconds of each phase of the next cold start.

    Args:
        history: Seconds by phase of past starts, newest last; phases that a start did not have are left out.
        weight_bytes: The model's size, for the prior of phases without history.
    """
    return {phase: _expected(phase, history, weight_bytes) for phase in PHASES}


def remaining(eta: Mapping[str, float], phase: str, elapsed: float, progress: float | None) -> float:
    """Seconds until ready.

    Args:
        eta: From `start_eta`.
        phase: The phase under way; `ready` has nothing left, an unknown one everything.
        elapsed: Seconds since this phase began.
        progress: 0..1 of this phase, where it can be told.
    """
    if phase == "ready":
        return 0.0
    order = [name for name in PHASES if name in eta]
    if phase not in order:
        return sum(max(0.0, eta[name]) for name in order)
    later = sum(max(0.0, eta[name]) for name in order[order.index(phase) + 1 :])
    expected, spent = max(0.0, eta[phase]), max(0.0, elapsed)
    return later + (_by_clock(expected, spent) if progress is None else _by_progress(expected, spent, progress))


def _expected(phase: str, history: Sequence[Mapping[str, float]], weight_bytes: int) -> float:
    known = [start[phase] for start in history if phase in start and math.isfinite(start[phase]) and start[phase] >= 0]
    if known:
        return median(known[-_REMEMBERED:])
    rate = _PRIOR_RATES.get(phase)
    return _PRIOR_SECONDS[phase] + (max(0, weight_bytes) / rate if rate else 0.0)


def _by_clock(expected: float, elapsed: float) -> float:
    """Runs down, and fades out over the last fifth: a late phase is never promised for this very moment."""
    tail = 0.2 * expected
    left = expected - elapsed
    if left >= tail or tail == 0.0:
        return max(0.0, left)
    return tail * math.exp((left - tail) / tail)


def _by_progress(expected: float, elapsed: float, progress: float) -> float:
    """Trusts the pace seen so far as much as there is of it: total = (1 - p) * expected + p * (elapsed / p)."""
    done = min(1.0, max(0.0, progress))
    return (1.0 - done) * ((1.0 - done) * expected + elapsed)
