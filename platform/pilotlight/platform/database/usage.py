"""The ledger's rows of requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    case,
    cast,
    delete,
    func,
    select,
    update,
)

from pilotlight.activator.values import FunctionId, Usage
from pilotlight.platform.database.connection import Database, upsert
from pilotlight.platform.database.schema import usage, writers

GROUPS = ("key", "function", "day")
ROWS_LIMIT = 1000
"""Most rows that one query returns."""
ABANDONED_SECONDS = 300.0
"""A writer that was not heard of for so long is gone for good."""


@dataclass(frozen=True)
class UsageFilter:
    """Which rows of the ledger, and which of the replicas' seconds; None and empty: all."""

    namespaces: frozenset[str] | None = None
    function: FunctionId | None = None
    key: str = ""
    since: float = 0.0
    until: float | None = None


class UsageRows:
    """Reads and writes; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, rows: Sequence[Usage], writer: str = "") -> None:
        """Upsert by request id; a final row is never changed again, a count never goes back."""
        with self._database.write() as connection:
            upsert(connection, usage, [{**_values(row), "writer": writer} for row in rows], where="usage")

    def seen(self, writer: str, now: float) -> None:
        """The writer lives; to be said before its rows are written, and again well within `ABANDONED_SECONDS`."""
        with self._database.write() as connection:
            upsert(connection, writers, [{"id": writer, "seen_at": now}])

    def close_running(self, writer: str, reason: str) -> int:
        """The writer has ended: what still runs in its name becomes `unknown`. Returns how many."""
        with self._database.write() as connection:
            connection.execute(delete(writers).where(writers.c.id == writer))
            return _close(connection, usage.c.writer == writer, reason)

    def close_abandoned(self, now: float, reason: str, after: float = ABANDONED_SECONDS) -> int:
        """The same for every writer not heard of for `after` seconds. Returns how many rows.

        Several may ask at once. A writer that comes back after all has the last word on its rows.
        """
        gone = writers.c.seen_at < now - after
        with self._database.write() as connection:
            connection.execute(delete(writers).where(gone))
            return _close(connection, usage.c.writer.not_in(select(writers.c.id)), reason)

    def rows(self, wanted: UsageFilter, limit: int = 100) -> tuple[Usage, ...]:
        """Newest first."""
        query = _filtered(select(usage), wanted).order_by(usage.c.admitted_at.desc())
        with self._database.read() as connection:
            rows = connection.execute(query.limit(min(limit, ROWS_LIMIT))).mappings().all()
        return tuple(_usage(row) for row in rows)

    def grouped(self, by: str, wanted: UsageFilter) -> tuple[dict[str, Any], ...]:
        """Sums by `key`, `function` or `day` (UTC)."""
        columns = {"key": (usage.c.key,), "function": (usage.c.namespace, usage.c.function), "day": (usage.c.day,)}[by]
        sums = (
            func.count().label("requests"),
            *(_count(usage.c[name]).label(name) for name in TOKENS),
            *(func.sum(usage.c[name]).label(name) for name in SECONDS),
            _count(_as_integer(usage.c.cold)).label("cold"),
            *(_count(_as_integer(usage.c.outcome == name)).label(name) for name in OUTCOMES),
        )
        query = _filtered(select(*columns, *sums), wanted).group_by(*columns).order_by(*columns)
        with self._database.read() as connection:
            return tuple(dict(row) for row in connection.execute(query).mappings())


TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens")
SECONDS = ("queue_seconds", "start_seconds", "serve_seconds")
SUMMED = (*TOKENS, *SECONDS)
OUTCOMES = ("ok", "cancelled", "rejected", "failed", "unknown")


def _close(connection: Connection, whose: ColumnElement[bool], reason: str) -> int:
    running = update(usage).where(usage.c.outcome == "running", whose)
    return connection.execute(running.values(outcome="unknown", reason=reason)).rowcount


def _count(column: Any) -> ColumnElement[int]:
    # PostgreSQL adds up whole numbers to decimal ones.
    return cast(func.sum(column), BigInteger)


def _as_integer(condition: Any) -> Any:
    return case((condition, 1), else_=0)


def _filtered(query: Select[Any], wanted: UsageFilter) -> Select[Any]:
    if wanted.namespaces is not None:
        query = query.where(usage.c.namespace.in_(sorted(wanted.namespaces)))
    if wanted.function is not None:
        query = query.where(usage.c.namespace == wanted.function.namespace, usage.c.function == wanted.function.name)
    if wanted.key:
        query = query.where(usage.c.key == wanted.key)
    if wanted.until is not None:
        query = query.where(usage.c.admitted_at < wanted.until)
    return query.where(usage.c.admitted_at >= wanted.since)


def _values(row: Usage) -> dict[str, Any]:
    return {
        "request": row.request,
        "key": row.key,
        "namespace": row.function.namespace,
        "function": row.function.name,
        "revision": row.revision,
        "replica": row.replica,
        "admitted_at": row.admitted_at,
        "day": datetime.fromtimestamp(row.admitted_at, UTC).strftime("%Y-%m-%d"),
        "prompt_tokens": row.prompt_tokens,
        "completion_tokens": row.completion_tokens,
        "cached_tokens": row.cached_tokens,
        "max_tokens": row.max_tokens,
        "queue_seconds": row.queue_seconds,
        "start_seconds": row.start_seconds,
        "serve_seconds": row.serve_seconds,
        "ttft_seconds": row.ttft_seconds,
        "cold": row.cold,
        "outcome": row.outcome,
        "status": row.status,
        "reason": row.reason,
    }


def _usage(row: RowMapping) -> Usage:
    values = {name: row[name] for name in row if name not in ("namespace", "function", "day", "writer")}
    return Usage(function=FunctionId(row["namespace"], row["function"]), **values)
