"""Alarms of a method that has none of its own: the best of many fixed rules, with thresholds from normal rows alone.

The rule is chosen by its result on the judged rows, among those within the budget of false alarms. No operator could
choose so; it favours what is compared with, and keeps the comparison one of scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from pilotlight.detector.evaluation.baselines import Scores
from pilotlight.detector.evaluation.measures import Judged, judge
from pilotlight.detector.persistence import Persistence
from pilotlight.detector.threshold import tail_level

Flags = NDArray[np.bool_]

BUDGET = 1.0
"""False alarms per entity and day that an operator bears."""
SHARES = (0.1, 0.05, 0.03, 0.02, 0.015, 0.01, 0.005, 0.002, 0.001, 5e-4, 2e-4, 1e-4, 1e-5, 1e-6)
"""Of normal rows above the threshold; the rarest are read off the tail."""
PERSISTENCES = (Persistence(1, 1), Persistence(2, 3), Persistence(3, 5), Persistence(5, 8), Persistence(8, 12))
_TAIL = 0.02


@dataclass(frozen=True)
class Outcome:
    """What alarms did on all entities together."""

    recall: float
    """Share of all events that were found; 0 without events."""
    false_alarms: float
    """Per entity and day."""
    false_runs: float
    delay: float | None
    """Median of the found events, in rows."""
    rule: str = ""


def outcome(judged: Sequence[Judged], days: float, rule: str = "") -> Outcome:
    """`days`: of all entities together."""
    delays = [delay for one in judged for delay in one.delays]
    return Outcome(
        recall=len(delays) / max(1, sum(one.events for one in judged)),
        false_alarms=sum(one.false_alarms for one in judged) / days,
        false_runs=sum(one.false_runs for one in judged) / days,
        delay=median(delays) if delays else None,
        rule=rule,
    )


def best_rule(scores: Sequence[Scores], labels: Sequence[Flags], minutes_per_row: float) -> Outcome:
    """The outcome with the highest recall within the budget; no alarms at all when every rule is over it."""
    within = [one for one in _outcomes(scores, labels, minutes_per_row) if one.false_alarms <= BUDGET]
    return max(within, key=lambda one: (one.recall, -one.false_alarms), default=Outcome(0, 0, 0, None, "none"))


def _outcomes(scores: Sequence[Scores], labels: Sequence[Flags], minutes_per_row: float) -> Iterator[Outcome]:
    days = sum(map(len, labels)) * minutes_per_row / 1440
    for persistence in PERSISTENCES:
        lasting = [persistence.lasting(one.test) for one in scores]
        for share in SHARES:
            judged = [
                judge(last > tail_level(one.train, share, _TAIL), known, 60 / minutes_per_row)
                for last, one, known in zip(lasting, scores, labels, strict=True)
            ]
            yield outcome(judged, days, f"{persistence.k} of {persistence.n} above {share:g}")
