"""A replica's seconds, split into starting, serving and idle: a pure step from one look to the next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from pilotlight.activator.values import FunctionId
from pilotlight.platform.values import Interval


@dataclass(frozen=True)
class Sight:
    """One replica as it was seen at one moment."""

    replica: str
    function: FunctionId
    revision: str
    state: str  # starting | serving | idle
    since: float
    """Unix time of its start, for the first interval."""
    caused_by: str = ""


@dataclass(frozen=True)
class Open:
    """The interval of every live replica, and those that just closed."""

    current: Mapping[str, Interval] = field(default_factory=dict)
    closed: tuple[Interval, ...] = ()


def step(before: Open, seen: Iterable[Sight], now: float, elapsed: float) -> Open:
    """Extend, change or end intervals; those of one replica touch and never overlap.

    Args:
        before: What the last look left.
        seen: Every live replica.
        now: Unix time, for replicas that are seen for the first time.
        elapsed: Monotonic seconds since the last look: a clock that is set neither makes seconds nor loses any.
    """
    current: dict[str, Interval] = {}
    closed: list[Interval] = []
    for sight in seen:
        known = before.current.get(sight.replica)
        if known is None:
            current[sight.replica] = _interval(sight, min(sight.since, now), now)
        elif known.state == sight.state:
            current[sight.replica] = replace(known, end=known.end + elapsed)
        else:
            closed.append(replace(known, end=known.end + elapsed))
            current[sight.replica] = _interval(sight, closed[-1].end, closed[-1].end)
    # A replica that is gone was last alive somewhere between the last look and this one.
    closed.extend(interval for name, interval in before.current.items() if name not in current)
    return Open(current, tuple(closed))


def resume(intervals: Iterable[Interval], live: frozenset[str], now: float) -> Open:
    """The open intervals of replicas that were adopted after a restart: the last one of each goes on, until `now`."""
    last: dict[str, Interval] = {}
    for interval in intervals:
        if interval.replica in live and interval.start >= last.get(interval.replica, interval).start:
            last[interval.replica] = interval
    return Open({name: replace(interval, end=max(now, interval.end)) for name, interval in last.items()})


def renamed(before: Open, names: Mapping[str, str]) -> Open:
    """The same intervals under the replicas' new names; `names` gives new by old."""
    if not names:
        return before
    current = (replace(interval, replica=names.get(name, name)) for name, interval in before.current.items())
    return replace(before, current={interval.replica: interval for interval in current})


def _interval(sight: Sight, start: float, end: float) -> Interval:
    return Interval(sight.replica, sight.function, sight.revision, sight.state, start, end, sight.caused_by)
