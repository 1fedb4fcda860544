"""A function's work in hand, told apart by revision where users have split its traffic. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pilotlight.activator.values import Demand, RevisionDemand
from pilotlight.detector.values import Load


def loads(demand: Demand, woken: bool, beside: Collection[str] = ()) -> tuple[Load, Mapping[str, Load]]:
    """The load of the function's own revision, and of each revision beside it; together they are the demand.

    Args:
        demand: Of the function.
        woken: Somebody has asked for a replica, and may be in no queue: whoever is refused because a start takes too
            long. That is work of the revision that was asked last.
        beside: Names of the revisions whose work is not the function's own.
    """
    asked = max(demand.per_revision, key=lambda part: part.last_active, default=RevisionDemand("", 0, 0)).revision
    parts = {part.revision: part for part in demand.per_revision}
    apart = {name: parts.get(name, RevisionDemand(name, 0, 0)) for name in beside}
    others = [part.last_active for name, part in parts.items() if name not in apart]
    own = Load(
        queued=demand.queued - sum(part.queued for part in apart.values()),
        in_flight=demand.in_flight - sum(part.in_flight for part in apart.values()),
        last_active=max(others, default=0.0) if apart else demand.last_active,
    )
    return _asked(own, woken and asked not in apart), {
        name: _asked(Load(part.queued, part.in_flight, part.last_active), woken and asked == name)
        for name, part in apart.items()
    }


def _asked(load: Load, woken: bool) -> Load:
    return Load(max(load.queued, int(woken and not load.in_flight)), load.in_flight, load.last_active)
