"""What an activator tells the leader next: a state machine without I/O. It keeps the newest state, never a queue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from pilotlight.activator.values import Demand, FunctionId
from pilotlight.platform.link.wire import REASON, Lost, Report

NEWS = 1000
"""Losses of replicas that are kept for the leader; it looks for itself as well, so the oldest may go."""


class Source(Protocol):
    """The activator, as the link sees it."""

    def demand(self) -> Mapping[FunctionId, Demand]:
        """Every function's work in hand."""

    def changes(self) -> Mapping[FunctionId, Demand | None]:
        """Of what has changed since the last call; None: it is gone. Costs nothing at rest."""


class Outbox:
    """Changes build on a report that was answered; after any other, and at first, all is told again."""

    def __init__(self, activator: str, started_at: float, cause: Callable[[FunctionId], str]) -> None:
        """`started_at`: Unix time; `cause`: the key of the oldest request that waits at a function."""
        self._activator = activator
        self._started_at = started_at
        self._cause = cause
        self._sequence = 0
        self._full = True
        self._leaving = False
        self._woken: set[FunctionId] = set()
        self._lost: dict[tuple[FunctionId, str], Lost] = {}

    @property
    def urgent(self) -> bool:
        """Whether there is something that must not wait for the next tick."""
        return bool(self._woken or self._lost)

    def leave(self) -> None:
        """From now on no new requests are taken."""
        self._leaving = True

    def wake(self, function: FunctionId) -> None:
        self._woken.add(function)

    def lost(self, function: FunctionId, replica: str, reason: str) -> None:
        self._lost.pop((function, replica), None)
        self._lost[function, replica] = Lost(function, replica, reason[:REASON])
        if len(self._lost) > NEWS:
            del self._lost[next(iter(self._lost))]

    def compose(self, source: Source, now: float, *, heartbeat: bool) -> Report | None:
        """The next report; None: there is nothing to tell. `heartbeat`: tell even that."""
        changes = source.changes()  # also before a full report, which contains them
        if not (self._full or changes or self.urgent or heartbeat):
            return None
        if self._full:
            changes = {**source.demand()}
        demands = {function: demand for function, demand in changes.items() if demand is not None}
        self._sequence += 1
        return Report(
            activator=self._activator,
            started_at=self._started_at,
            sequence=self._sequence,
            sent_at=now,
            full=self._full,
            leaving=self._leaving,
            demands=demands,
            gone=tuple(function for function, demand in changes.items() if demand is None),
            woken=tuple(self._woken),
            lost=tuple(self._lost.values()),
            causes={
                function: key
                for function, demand in demands.items()
                if (demand.queued or function in self._woken) and (key := self._cause(function))
            },
        )

    def answered(self, report: Report, *, resync: bool) -> None:
        """The leader has it; what came meanwhile stays."""
        self._full = resync
        self._woken.difference_update(report.woken)
        for loss in report.lost:
            self._lost.pop((loss.function, loss.replica), None)

    def failed(self) -> None:
        """Nobody knows whether the leader has it."""
        self._full = True
