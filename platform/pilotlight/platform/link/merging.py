"""Reports of several activators become one demand: pure functions, each a law that the tests hold it to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeVar

from pilotlight.activator.values import Demand, FunctionId, RevisionDemand
from pilotlight.platform.link.wire import Report

_T = TypeVar("_T")


@dataclass(frozen=True)
class Heard:
    """What one activator has in hand, by all its reports so far."""

    started_at: float
    sequence: int
    heard_at: float
    """Monotonic seconds of the leader."""
    skew: float
    """Seconds that the leader's clock is ahead of the activator's, the way of the report included."""
    demands: Mapping[FunctionId, Demand]
    queued: Mapping[FunctionId, int]
    """Of those with waiting requests."""
    causes: Mapping[FunctionId, str]
    leaving: bool = False
    """It takes no new requests."""


class Refusal(Enum):
    """Why a report changes nothing."""

    OLD = auto()
    """Another one of the same activator, sent later, was here before: a duplicate, or out of order."""
    BASELESS = auto()
    """It tells changes of what was never heard."""


def follow(before: Heard | None, report: Report, monotonic: float, now: float) -> Heard | Refusal:
    """What is known of an activator after a report; `before`: None when it is new, or silent for so long as to be gone.

    A report builds on the one before it only; whoever missed one gets all of it the next time.
    """
    sent = (report.started_at, report.sequence)
    if before is not None and sent <= (before.started_at, before.sequence):
        return Refusal.OLD
    if not report.full and (before is None or sent != (before.started_at, before.sequence + 1)):
        return Refusal.BASELESS
    base = before if before is not None and not report.full else None
    left_out = {*report.gone, *report.demands}
    return Heard(
        started_at=report.started_at,
        sequence=report.sequence,
        heard_at=monotonic,
        skew=now - report.sent_at,
        demands=_without(base.demands if base else {}, report.gone) | dict(report.demands),
        queued=_without(base.queued if base else {}, left_out)
        | {function: demand.queued for function, demand in report.demands.items() if demand.queued},
        causes=_without(base.causes if base else {}, left_out) | dict(report.causes),
        leaving=report.leaving,
    )


def arrivals(before: Heard | None, report: Report) -> dict[FunctionId, int]:
    """Requests by function that have come since the last report; `before` may be of an earlier start, or long ago.

    A count that fell was begun anew, so all of it is new.
    """
    known = before.demands if before is not None and before.started_at == report.started_at else {}
    return {function: _risen(known.get(function), demand.arrived_total) for function, demand in report.demands.items()}


def merged(heard: Collection[Heard], functions: Iterable[FunctionId]) -> dict[FunctionId, Demand]:
    """Sums over activators, the latest activity; a function that none of them has is missing: nothing is known."""
    return {
        function: total(parts)
        for function in functions
        if (parts := [each.demands[function] for each in heard if function in each.demands])
    }


def total(demands: Collection[Demand]) -> Demand:
    """pre: at least one."""
    replicas: Counter[str] = Counter()
    queued: Counter[str] = Counter()
    in_flight: Counter[str] = Counter()
    active: dict[str, float] = {}
    for demand in demands:
        for replica, count in demand.per_replica:
            replicas[replica] += count
        for part in demand.per_revision:
            queued[part.revision] += part.queued
            in_flight[part.revision] += part.in_flight
            active[part.revision] = max(part.last_active, active.get(part.revision, 0.0))
    return Demand(
        queued=sum(demand.queued for demand in demands),
        in_flight=sum(demand.in_flight for demand in demands),
        arrived_total=sum(demand.arrived_total for demand in demands),
        last_active=max(demand.last_active for demand in demands),
        per_replica=tuple(sorted(replicas.items())),
        per_revision=tuple(
            RevisionDemand(name, queued[name], in_flight[name], active[name]) for name in sorted(queued)
        ),
    )


def at_least(demands: Mapping[FunctionId, Demand]) -> dict[FunctionId, Demand]:
    """What may be acted on before all activators were heard: requests that wait while nothing of their function runs.

    More reports could only add to them. Anything else, and above all an idle function, is not known yet.
    """
    return {function: demand for function, demand in demands.items() if demand.queued and not demand.in_flight}


def _risen(before: Demand | None, count: int) -> int:
    seen = before.arrived_total if before is not None else 0
    return count - seen if count >= seen else count


def _without(known: Mapping[FunctionId, _T], functions: Iterable[FunctionId]) -> dict[FunctionId, _T]:
    kept = dict(known)
    for function in functions:
        kept.pop(function, None)
    return kept
