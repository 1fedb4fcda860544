"""Replicas, the intervals they lived, and how long their starts took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, Select, case, func, insert, select, update

from pilotlight.activator.values import FunctionId
from pilotlight.platform.database.connection import Database, upsert
from pilotlight.platform.database.renaming import rename
from pilotlight.platform.database.schema import replica_intervals, replicas, start_phases
from pilotlight.platform.database.usage import UsageFilter
from pilotlight.platform.values import Desired, Interval, ReplicaRecord

STARTS_KEPT = 20
"""Cold starts that an estimate looks back on, per model and engine."""


class Replicas:
    """Reads and writes; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def live(self) -> tuple[ReplicaRecord, ...]:
        """Those that have not ended, oldest first."""
        query = select(replicas).where(replicas.c.ended_at.is_(None)).order_by(replicas.c.created_at)
        with self._database.read() as connection:
            return tuple(_replica(row) for row in connection.execute(query).mappings())

    def recent(self, function: FunctionId, limit: int = 20) -> tuple[ReplicaRecord, ...]:
        """A function's latest, newest first, ended ones too."""
        query = (
            select(replicas)
            .where(replicas.c.namespace == function.namespace, replicas.c.function == function.name)
            .order_by(replicas.c.created_at.desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            return tuple(_replica(row) for row in connection.execute(query).mappings())

    def get(self, replica: str) -> ReplicaRecord | None:
        with self._database.read() as connection:
            row = connection.execute(select(replicas).where(replicas.c.id == replica)).mappings().one_or_none()
        return None if row is None else _replica(row)

    def add(self, record: ReplicaRecord) -> None:
        with self._database.write() as connection:
            connection.execute(insert(replicas), [_values(record)])

    def desire(self, replica: str, desired: Desired) -> None:
        with self._database.write() as connection:
            connection.execute(update(replicas).where(replicas.c.id == replica).values(desired=desired.value))

    def observed(self, replica: str, state: str, message: str, ended_at: float | None = None) -> None:
        changed = {"state": state, "message": message, "ended_at": ended_at}
        with self._database.write() as connection:
            connection.execute(update(replicas).where(replicas.c.id == replica).values(**changed))

    def rename(self, old: str, new: str) -> None:
        """The replica goes on under another name, with its past; one of that name is the same replica, seen again."""
        if old != new:
            with self._database.write() as connection:
                rename(connection, old, new)

    def write_intervals(self, intervals: Sequence[Interval]) -> None:
        """Insert, or move the end of those already there."""
        with self._database.write() as connection:
            upsert(connection, replica_intervals, [_interval_values(interval) for interval in intervals])

    def intervals(self, function: FunctionId | None = None, since: float = 0.0) -> tuple[Interval, ...]:
        query = select(replica_intervals).where(replica_intervals.c.end >= since)
        if function is not None:
            mine = replica_intervals.c.namespace == function.namespace, replica_intervals.c.function == function.name
            query = query.where(*mine)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(replica_intervals.c.start)).mappings().all()
        return tuple(_interval(row) for row in rows)

    def seconds(self, group: str, wanted: UsageFilter) -> dict[tuple[str, str], float]:
        """Replica-seconds within the filter's time, by (group, state).

        `group`: `function` gives `namespace/name`, `key` the key whose request caused the start, empty: none did.
        """
        table = replica_intervals
        names = {"function": (table.c.namespace, table.c.function), "key": (table.c.caused_by,)}[group]
        query = _filtered(select(*names, table.c.state, _within(wanted)), wanted).group_by(*names, table.c.state)
        with self._database.read() as connection:
            return {("/".join(row[:-2]), row[-2]): row[-1] for row in connection.execute(query)}

    def started(self, replica: str, digest: str, kind: str, seconds: Mapping[str, float], now: float) -> None:
        """Keep how long each phase of a start took."""
        row = {"replica": replica, "at": now, "digest": digest, "kind": kind, "seconds": dict(seconds)}
        with self._database.write() as connection:
            upsert(connection, start_phases, [row])

    def became_ready(self, replicas: Sequence[str]) -> frozenset[str]:
        """Those of them whose start succeeded."""
        query = select(start_phases.c.replica).where(start_phases.c.replica.in_(replicas))
        with self._database.read() as connection:
            return frozenset(connection.execute(query).scalars())

    def starts(self, digest: str, kind: str) -> tuple[Mapping[str, float], ...]:
        """The last starts of a model, newest last."""
        query = (
            select(start_phases.c.seconds)
            .where(start_phases.c.digest == digest, start_phases.c.kind == kind)
            .order_by(start_phases.c.at.desc())
            .limit(STARTS_KEPT)
        )
        with self._database.read() as connection:
            return tuple(reversed(connection.execute(query).scalars().all()))


def _within(wanted: UsageFilter) -> ColumnElement[float]:
    """Sum of the intervals' parts between `since` and `until`."""
    start, end = replica_intervals.c.start, replica_intervals.c.end
    first = case((start < wanted.since, wanted.since), else_=start)
    last = end if wanted.until is None else case((end > wanted.until, wanted.until), else_=end)
    return func.sum(last - first)


def _filtered(query: Select[Any], wanted: UsageFilter) -> Select[Any]:
    table = replica_intervals
    if wanted.namespaces is not None:
        query = query.where(table.c.namespace.in_(sorted(wanted.namespaces)))
    if wanted.function is not None:
        query = query.where(table.c.namespace == wanted.function.namespace, table.c.function == wanted.function.name)
    if wanted.key:
        query = query.where(table.c.caused_by == wanted.key)
    if wanted.until is not None:
        query = query.where(table.c.start < wanted.until)
    return query.where(table.c.end >= wanted.since)


def _values(record: ReplicaRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "namespace": record.function.namespace,
        "function": record.function.name,
        "revision": record.revision,
        "created_at": record.created_at,
        "desired": record.desired.value,
        "state": record.state,
        "message": record.message,
        "cpus": list(record.cpus),
        "devices": list(record.devices),
        "caused_by": record.caused_by,
        "ended_at": record.ended_at,
    }


def _replica(row: RowMapping) -> ReplicaRecord:
    return ReplicaRecord(
        id=row["id"],
        function=FunctionId(row["namespace"], row["function"]),
        revision=row["revision"],
        created_at=row["created_at"],
        desired=Desired(row["desired"]),
        state=row["state"],
        message=row["message"],
        cpus=tuple(row["cpus"]),
        devices=tuple(row["devices"]),
        caused_by=row["caused_by"],
        ended_at=row["ended_at"],
    )


def _interval_values(interval: Interval) -> dict[str, Any]:
    return {
        "replica": interval.replica,
        "start": interval.start,
        "end": interval.end,
        "state": interval.state,
        "namespace": interval.function.namespace,
        "function": interval.function.name,
        "revision": interval.revision,
        "caused_by": interval.caused_by,
    }


def _interval(row: RowMapping) -> Interval:
    return Interval(
        replica=row["replica"],
        function=FunctionId(row["namespace"], row["function"]),
        revision=row["revision"],
        state=row["state"],
        start=row["start"],
        end=row["end"],
        caused_by=row["caused_by"],
    )
