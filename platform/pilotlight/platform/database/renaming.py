"""Giving a replica its lasting name, which a pod has only once it is there."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, select, update

from pilotlight.platform.database.schema import replica_intervals, replicas, start_phases
from pilotlight.platform.values import Desired

WEIGHT = {desired.value: weight for weight, desired in enumerate((Desired.RUNNING, Desired.DRAINED, Desired.STOPPED))}


def rename(connection: Connection, old: str, new: str) -> None:
    """Everything of `old` becomes `new`'s; where both have something, it is brought together."""
    wanted, found = _row(connection, old), _row(connection, new)
    if wanted is None:
        return
    if found is None:
        connection.execute(update(replicas).where(replicas.c.id == old).values(id=new))
    else:
        connection.execute(update(replicas).where(replicas.c.id == new).values(merged(wanted, found)))
        connection.execute(delete(replicas).where(replicas.c.id == old))
    _rename_intervals(connection, old, new, wanted["caused_by"])
    _rename_start(connection, old, new)


def merged(wanted: RowMapping, found: RowMapping) -> dict[str, Any]:
    """What the record of a replica that was found takes over from the one that was asked for. Pure."""
    return {
        "created_at": min(wanted["created_at"], found["created_at"]),
        "desired": max(wanted["desired"], found["desired"], key=WEIGHT.__getitem__),
        "caused_by": found["caused_by"] or wanted["caused_by"],
        "cpus": found["cpus"] or wanted["cpus"],
        "devices": found["devices"] or wanted["devices"],
    }


def _rename_intervals(connection: Connection, old: str, new: str, caused_by: str) -> None:
    """The old name's seconds end where the new one's begin, so that none is counted twice."""
    table = replica_intervals
    mine = table.c.replica == old
    first = connection.execute(select(func.min(table.c.start)).where(table.c.replica == new)).scalar_one()
    if first is not None:
        connection.execute(delete(table).where(mine, table.c.start >= first))
        connection.execute(update(table).where(mine, table.c.end > first).values(end=first))
        unexplained = (table.c.replica == new, table.c.caused_by == "")
        connection.execute(update(table).where(*unexplained).values(caused_by=caused_by))
    connection.execute(update(table).where(mine).values(replica=new))


def _rename_start(connection: Connection, old: str, new: str) -> None:
    known = select(start_phases.c.replica).where(start_phases.c.replica == new)
    if connection.execute(known).first() is None:
        connection.execute(update(start_phases).where(start_phases.c.replica == old).values(replica=new))
    else:
        connection.execute(delete(start_phases).where(start_phases.c.replica == old))


def _row(connection: Connection, replica: str) -> RowMapping | None:
    return connection.execute(select(replicas).where(replicas.c.id == replica)).mappings().one_or_none()
