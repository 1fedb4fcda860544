"""What counters and histograms gained between two moments, through restarts, gaps and scrapes at any time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple


class Point(NamedTuple):
    """A counter's value at a Unix time."""

    at: float
    value: float
    started: float | None = None
    """Unix time at which its process started to count from 0; None: not told."""


class Gain(NamedTuple):
    """How much a counter gained, and of how many seconds that is known."""

    amount: float
    seconds: float


def gain(points: Sequence[Point], start: float, end: float) -> Gain:
    """Between `start` and `end`; what lies between two scrapes is spread evenly over their time.

    A lower value, or a start after the last scrape, is a restart: what was counted before it and after the last scrape
    is lost, and the rest counts from 0. A process that started in the window is known from its start.
    """
    amount = seconds = 0.0
    known = [point for point in points if math.isfinite(point.value) and point.value >= 0]
    for begin, finish, gained in _stretches(known):
        overlap = min(finish, end) - max(begin, start)
        if overlap > 0:
            amount += gained * overlap / (finish - begin)
            seconds += overlap
    return Gain(amount, seconds)


def _stretches(points: Sequence[Point]) -> Iterable[tuple[float, float, float]]:
    """(from, until, gained) between scrapes, and from a process's start to its first one."""
    if points and points[0].started is not None and points[0].started < points[0].at:
        yield points[0].started, points[0].at, points[0].value
    for before, after in pairwise(points):
        begin = before.at
        restarted = after.value < before.value
        if after.started is not None and after.started > before.at:
            begin, restarted = min(after.started, after.at), True
        if after.at > begin:
            yield begin, after.at, after.value if restarted else after.value - before.value


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """The value below which `share` of the observations lie, 0 < share < 1; None without observations.

    Args:
        buckets: Observations at or below each upper bound, cumulative, with the bound infinity; what grew at different
            moments may not be monotone, and the largest so far stands.
        share: Interpolated linearly in its bucket, from 0 in the first, as Prometheus does; beyond the last finite
            bound, that bound.
    """
    reached, below, highest = 0.0, 0.0, 0.0
    counts = []
    for bound in sorted(buckets):
        highest = max(highest, buckets[bound])
        counts.append((bound, highest))
    wanted = share * highest
    for bound, count in counts if highest > 0 else ():
        if count >= wanted:
            return below if math.isinf(bound) else below + (bound - below) * (wanted - reached) / (count - reached)
        reached, below = count, bound
    return None
