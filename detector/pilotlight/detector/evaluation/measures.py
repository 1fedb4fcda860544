"""How good scores and alarms are: areas under precision-recall curves, events found, delays and false alarms.

Point adjustment is left out on purpose: it counts a long event as found from one lucky row, so that random scores win.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Flags = NDArray[np.bool_]

VUS_WINDOW = 20
"""Widest tolerance around an event in rows, as in TSB-AD's comparison of public sets."""
VUS_THRESHOLDS = 100


@dataclass(frozen=True)
class Judged:
    """What an alarm channel did on one labelled series."""

    events: int
    delays: tuple[int, ...]
    """Rows from the start of each event that was found to the first alarm in it."""
    false_alarms: int
    """Started hours of alarm beside events: one that stays up calls somebody again every hour."""
    false_runs: int
    """Runs of alarms that touch no event, however long."""


def spans(flags: Flags) -> list[tuple[int, int]]:
    """Every run of true values, as (start, end) with the end excluded."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    return [(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def judge(alarms: Flags, labels: Flags, rows_per_hour: float) -> Judged:
    """Count events with an alarm in them, and alarms beside every event. Flags of shape (rows,).

    Of an alarm that reaches into an event, the hour before and the hour after are not counted. Runs alone would
    reward a channel that is always on: all its alarms are one, and no event is missed.
    """
    events = spans(labels)
    hits = [np.flatnonzero(alarms[start:end]) for start, end in events]
    beside = spans(alarms & ~labels)
    near = np.concatenate(([False], labels, [False]))
    touching = [bool(near[start] or near[end + 1]) for start, end in beside]
    hours = [int(np.ceil((end - start) / rows_per_hour)) for start, end in beside]
    return Judged(
        events=len(events),
        delays=tuple(int(hit[0]) for hit in hits if len(hit)),
        false_alarms=sum(hours) - sum(touching),
        false_runs=len(beside) - sum(touching),
    )


def auc_pr(scores: Vector, labels: Flags) -> float:
    """Average precision of single rows: sum of precision over the steps in recall; equal scores are one step.

    NaN when no row is labelled.
    """
    if not labels.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    found = np.cumsum(labels[order])[last]
    precision = found / (last + 1)
    return float(np.sum(precision * np.diff(found, prepend=0)) / found[-1])


def vus_pr(scores: Vector, labels: Flags, window: int = VUS_WINDOW, thresholds: int = VUS_THRESHOLDS) -> float:
    """Volume under the surface of range-based precision and recall (Paparrizos et al., VLDB 2022), 0..1.

    The area under the precision-recall curve, averaged over tolerances 0..`window`: at each, an event's label falls off
    on both sides as sqrt(1 - distance / tolerance), and recall is weighted by the share of events that are touched at
    all. Thresholds are evenly spaced over the ranks of the scores. NaN when no row is labelled.
    """
    if not labels.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    levels = ordered[np.linspace(0, len(scores) - 1, thresholds).astype(int)]
    counts = np.searchsorted(-ordered, -levels, side="right")
    areas = [_range_area(scores, labels, order, levels, counts, width) for width in range(window + 1)]
    return float(np.mean(areas))


def _range_area(
    scores: Vector, labels: Flags, order: NDArray[np.intp], levels: Vector, counts: NDArray[np.intp], width: int
) -> float:
    soft = softened(labels, width)
    found = np.cumsum(soft[order])[counts - 1]
    core = np.cumsum(labels[order])[counts - 1]
    # A row beside an event counts as positive as far as it is predicted; half of that makes the denominator.
    positives = labels.sum() + (found - core) / 2
    peaks = np.array([scores[start:end].max() for start, end in spans(soft > 0)])
    touched = (peaks[:, None] >= levels).mean(axis=0)
    recall = np.minimum(found / positives, 1) * touched
    return float(np.dot(np.diff(recall, prepend=0), found / counts))


def softened(labels: Flags, width: int) -> Vector:
    """Labels with sloping sides of half of `width` rows each; shape (rows,), 0..1."""
    soft = labels.astype(np.float64)
    for start, end in spans(labels):
        for distance in range(1, width // 2 + 1):
            slope = np.sqrt(1 - distance / width)
            for place in (start - distance, end - 1 + distance):
                if 0 <= place < len(soft):
                    soft[place] = min(1.0, soft[place] + slope)
    return soft


def trailing_mean(values: Vector, rows: int) -> Vector:
    """The mean of the last `rows` values, of those that there are in the beginning; shape (rows,) in and out."""
    sums = np.cumsum(np.concatenate(([0.0], values)))
    ends = np.arange(1, len(values) + 1)
    begins = np.maximum(0, ends - rows)
    return np.asarray((sums[ends] - sums[begins]) / (ends - begins))
