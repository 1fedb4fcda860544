"""One window of a revision's metrics, from whatever scrapes there were. Unknown is never taken for zero."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from pilotlight.detector.counters import Gain, Point, gain, quantile
from pilotlight.detector.metrics import METRICS, Kind, Metric

LEAST_KNOWN = 0.5
"""Share of the window, or of a source's time in it, that has to be known."""


@dataclass(frozen=True)
class Scrape:
    """What one source told at one moment; what it did not tell is left out."""

    at: float
    """Unix time."""
    started: float | None = None
    """Unix time of its process's start."""
    gauges: Mapping[str, float] = field(default_factory=dict)
    counters: Mapping[str, float] = field(default_factory=dict)
    histograms: Mapping[str, Mapping[float, float]] = field(default_factory=dict)
    """By name: observations at or below each upper bound, cumulative."""


@dataclass(frozen=True)
class Observation:
    """A revision's metrics from `start` to `end`."""

    start: float
    end: float
    values: tuple[float | None, ...]
    """In the order of `METRICS`; None: not known."""


def observe(scrapes: Mapping[str, Iterable[Scrape]], start: float, end: float) -> Observation:
    """Observe one revision.

    Args:
        scrapes: By source (a replica, an activator, the machine), in any order. Counters need a scrape before `start`
            too, and those after `end` help; a source without any is no source.
        start: Unix time.
        end: Unix time, after `start`. A source that is known for less than half of its time in the window makes what is
            read from it unknown: the others' sum would be a lower number and no observation.

    Raises ValueError: `end` is not after `start`.
    """
    if not end > start:
        raise ValueError(f"end: expected a time after {start}, found {end}")
    ordered = [sorted(found, key=lambda one: one.at) for found in scrapes.values()]
    window = _Window([source for source in ordered if source], start, end)
    return Observation(start, end, tuple(window.value(metric) for metric in METRICS))


@dataclass(frozen=True)
class _Window:
    sources: Sequence[Sequence[Scrape]]
    start: float
    end: float

    def value(self, metric: Metric) -> float | None:
        match metric.kind:
            case Kind.RATE:
                gained = self._gained(metric.reads[0])
                return None if gained is None else gained / (self.end - self.start)
            case Kind.RATIO:
                part, whole = (self._gained(name) for name in metric.reads)
                return None if part is None or not whole else min(1.0, part / whole)
            case Kind.QUANTILE:
                return self._quantile(metric.reads[0], metric.quantile)
            case Kind.SUM:
                means = [mean for name in metric.reads for mean in self._means(name)]
                known = [mean for mean in means if mean is not None]
                return sum(known) if known and len(known) == len(means) else None
            case Kind.HIGHEST:
                return max((mean for mean in self._means(metric.reads[0]) if mean is not None), default=None)

    def _gained(self, name: str) -> float | None:
        points = [_points((one, one.counters.get(name)) for one in source) for source in self.sources]
        gains = [self._gain(source, told) for source, told in zip(self.sources, points, strict=True) if told]
        known = [one.amount for one in gains if one is not None]
        return sum(known) if known and len(known) == len(gains) else None

    def _quantile(self, name: str, share: float) -> float | None:
        total: dict[float, float] = {}
        for source in self.sources:
            for bound in {bound for one in source for bound in one.histograms.get(name, ())}:
                points = _points((one, one.histograms.get(name, {}).get(bound)) for one in source)
                gained = self._gain(source, points)
                if gained is None:
                    return None
                total[bound] = total.get(bound, 0.0) + gained.amount
        return quantile(total, share)

    def _gain(self, source: Sequence[Scrape], points: Sequence[Point]) -> Gain | None:
        """None: too little of the source's time is known."""
        found = gain(points, self.start, self.end)
        return found if found.seconds >= LEAST_KNOWN * self._lifetime(source) > 0 else None

    def _lifetime(self, source: Sequence[Scrape]) -> float:
        """Seconds of the window after the source's first start; all of it when that is not told."""
        first = source[0].started
        return self.end - max(self.start, self.start if first is None else first)

    def _means(self, name: str) -> list[float | None]:
        """Of each source that tells the gauge: its mean in the window; None: none of its scrapes are from there."""
        telling = [source for source in self.sources if any(name in one.gauges for one in source)]
        return [self._mean(source, name) for source in telling]

    def _mean(self, source: Sequence[Scrape], name: str) -> float | None:
        values = [one.gauges[name] for one in source if name in one.gauges and self.start <= one.at <= self.end]
        known = [value for value in values if math.isfinite(value) and value >= 0]
        return fmean(known) if known else None


def _points(told: Iterable[tuple[Scrape, float | None]]) -> list[Point]:
    return [Point(one.at, value, one.started) for one, value in told if value is not None]
