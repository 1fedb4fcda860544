"""The leader's view of all activators: what each reported, added up. No I/O; everything runs in one event loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, replace

import structlog

from pilotlight.activator.values import Clock, Demand, FunctionId
from pilotlight.platform.link.merging import Heard, Refusal, arrivals, at_least, follow, merged
from pilotlight.platform.link.sharing import Grants
from pilotlight.platform.link.wire import Answer, Report

STALE_SECONDS = 10.0
"""Five missed heartbeats: an activator that is silent for so long is gone, and its requests with it."""
SETTLE_SECONDS = 10.0
"""A new leader waits so long for activators that should be there."""
FORGET_SECONDS = 3600.0
"""One that was only cut off may come back within this without its arrivals being counted twice."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class HubSettings:
    stale_seconds: float = STALE_SECONDS
    settle_seconds: float = SETTLE_SECONDS


@dataclass(frozen=True)
class Seen:
    """An activator, for people and probes."""

    silent_seconds: float
    skew_seconds: float


class Hub:
    """`demand` is the control loop's half of `Traffic`; `cause` is what its ledger asks of a start.

    A function that no activator tells of is missing from `demand()`: unknown, which never shrinks anything. Until every
    expected activator was heard, or `settle_seconds` after the term began, all is unknown but requests that wait at a
    function of which nothing runs: they are certain, and a start must not wait for silent activators.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        expected: Callable[[], int],
        limit: Callable[[FunctionId], int],
        settings: HubSettings | None = None,
    ) -> None:
        """`name`: this process, as activators see it; `expected`: activators that there should be, the ready endpoints
        of their Service; `limit`: requests of a function that may wait in the whole cluster."""
        self._name = name
        self._clock = clock
        self._expected = expected
        self._limit = limit
        self._settings = settings or HubSettings()
        self.begin()

    def begin(self) -> None:
        """A term begins: nothing is known of anybody."""
        self._heard: dict[str, Heard] = {}
        self._arrived: dict[FunctionId, int] = {}
        self._last_active: dict[FunctionId, float] = {}
        self._merged: dict[FunctionId, Demand] = {}
        self._merged_of: Set[str] = frozenset()
        self._dirty: set[FunctionId] = set()
        self._grants = Grants(self._limit)
        self._began = self._clock.monotonic()
        self._settled = False

    def take(self, report: Report) -> Answer:
        """Note what an activator tells, and say what it may hold."""
        now = self._clock.monotonic()
        known = self._heard.get(report.activator)
        current = known if known is not None and self._is_fresh(known, now) else None
        found = follow(current, report, now, self._clock.now())
        if isinstance(found, Heard):
            self._note(known, found, report)
        queued = {name: heard.queued for name, heard in self._fresh().items() if not heard.leaving}
        if report.leaving:
            return Answer(self._name, found is Refusal.BASELESS, max(1, len(queued)))
        shares = self._grants.answer(report.activator, {report.activator: {}, **queued})
        return Answer(self._name, found is Refusal.BASELESS, len({report.activator, *queued}), shares)

    def demand(self) -> Mapping[FunctionId, Demand]:
        """The work in hand by function, of those that are known."""
        self._merge()
        return dict(self._merged) if self._has_settled() else at_least(self._merged)

    def cause(self, function: FunctionId) -> str:
        """The key of the oldest request that waits there at some activator; empty: there is none."""
        return next((heard.causes[function] for heard in self._fresh().values() if function in heard.causes), "")

    def activators(self) -> Mapping[str, Seen]:
        """All that were heard in this term and are not forgotten."""
        now = self._clock.monotonic()
        return {name: Seen(now - heard.heard_at, heard.skew) for name, heard in self._heard.items()}

    def _merge(self) -> None:
        """Add up what has changed; all of it when an activator has come or gone."""
        fresh = self._fresh()
        if fresh.keys() != self._merged_of:
            self._merged_of = frozenset(fresh)
            self._dirty.update(self._merged, *(heard.demands for heard in fresh.values()))
        for function in self._dirty:
            self._merged.pop(function, None)
        for function, demand in merged(fresh.values(), self._dirty).items():
            arrived, latest = self._arrived[function], self._last_active[function]
            self._merged[function] = replace(demand, arrived_total=arrived, last_active=latest)
        self._dirty = set()

    def _note(self, known: Heard | None, found: Heard, report: Report) -> None:
        if known is None or known.started_at != found.started_at:
            log.info("activator heard", activator=report.activator, functions=len(found.demands))
        for function, count in arrivals(known, report).items():
            self._arrived[function] = self._arrived.get(function, 0) + count
            latest = max(self._last_active.get(function, 0.0), report.demands[function].last_active)
            self._last_active[function] = latest
        self._heard[report.activator] = found
        dropped = known.demands.keys() - found.demands.keys() if known is not None else set()
        self._dirty |= report.demands.keys() | dropped
        self._forget(dropped)

    def _forget(self, dropped: set[FunctionId]) -> None:
        """Activators that are long gone, and the counts of functions that nobody has any more."""
        now = self._clock.monotonic()
        for name, heard in list(self._heard.items()):
            if now - heard.heard_at > FORGET_SECONDS:
                dropped = dropped | heard.demands.keys()
                del self._heard[name]
        for function in dropped:
            if not any(function in heard.demands for heard in self._heard.values()):
                self._arrived.pop(function, None)
                self._last_active.pop(function, None)

    def _fresh(self) -> dict[str, Heard]:
        now = self._clock.monotonic()
        return {name: heard for name, heard in self._heard.items() if self._is_fresh(heard, now)}

    def _is_fresh(self, heard: Heard, now: float) -> bool:
        return now - heard.heard_at < self._settings.stale_seconds

    def _has_settled(self) -> bool:
        if not self._settled:
            waited = self._clock.monotonic() - self._began
            enough = len(self._fresh()) >= max(1, self._expected())
            self._settled = enough or waited >= self._settings.settle_seconds
        return self._settled
