"""Lengths of requests as sketches, and what is proposed for functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, RowMapping, Select, Table, delete, insert, select

from pilotlight.activator.values import FunctionId
from pilotlight.platform.database.connection import Database, upsert
from pilotlight.platform.database.schema import functions, recommendations, request_lengths, usage
from pilotlight.platform.values import RecommendationRecord
from pilotlight.recommender.proposals import Proposal
from pilotlight.recommender.sketches import RequestLengths, Sketch


class Ended(NamedTuple):
    """A request of the ledger, as far as lengths are concerned."""

    function: FunctionId
    admitted_at: float
    prompt_tokens: int
    completion_tokens: int
    outcome: str
    max_tokens: int | None = None
    """That it asked for."""


class Recommendations:
    """Reads and writes; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def lengths(self) -> tuple[dict[FunctionId, RequestLengths], float]:
        """Of every function that had requests, and up to which admission they are counted."""
        with self._database.read() as connection:
            rows = connection.execute(select(request_lengths)).mappings().all()
        found = {FunctionId(row["namespace"], row["function"]): _lengths(row) for row in rows}
        return found, max((row["until"] for row in rows), default=0.0)

    def requests(self, after: float, until: float, limit: int) -> tuple[Ended, ...]:
        """The ledger's rows of admissions in (after, until], oldest first."""
        columns = (
            usage.c.namespace,
            usage.c.function,
            usage.c.admitted_at,
            usage.c.prompt_tokens,
            usage.c.completion_tokens,
            usage.c.outcome,
            usage.c.max_tokens,
        )
        query = select(*columns).where(usage.c.admitted_at > after, usage.c.admitted_at <= until)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(usage.c.admitted_at).limit(limit)).all()
        return tuple(Ended(FunctionId(row[0], row[1]), *row[2:]) for row in rows)

    def count(self, changed: Mapping[FunctionId, RequestLengths], until: float) -> None:
        """Keep what was added to; all admissions up to `until` are in it."""
        rows = [
            {
                "namespace": function.namespace,
                "function": function.name,
                "prompt": lengths.prompt.to_json(),
                "answer": lengths.answer.to_json(),
                "total": lengths.total.to_json(),
                "until": until,
            }
            for function, lengths in changed.items()
        ]
        with self._database.write() as connection:
            upsert(connection, request_lengths, rows)

    def forget(self) -> frozenset[FunctionId]:
        """Drop what is kept of functions that are gone, or were made anew since; returns them."""
        gone = _gone(request_lengths, request_lengths.c.until), _gone(recommendations, recommendations.c.at)
        with self._database.read() as connection:
            old = {FunctionId(*row) for query in gone for row in connection.execute(query)}
        if old:
            with self._database.write() as connection:
                for function in old:
                    connection.execute(delete(request_lengths).where(*_of(request_lengths, function)))
                    connection.execute(delete(recommendations).where(*_of(recommendations, function)))
        return frozenset(old)

    def propose(self, function: FunctionId, revision: str, proposals: Iterable[Proposal], now: float) -> None:
        """In place of all that was proposed for the function before."""
        identity = {"namespace": function.namespace, "function": function.name, "revision": revision, "at": now}
        rows = [{**identity, **asdict(proposal)} for proposal in proposals]
        with self._database.write() as connection:
            connection.execute(delete(recommendations).where(*_of(recommendations, function)))
            if rows:
                connection.execute(insert(recommendations), rows)

    def all(
        self, function: FunctionId | None = None, namespaces: frozenset[str] | None = None, limit: int | None = 1000
    ) -> tuple[RecommendationRecord, ...]:
        """By function and option; no limit: all there are."""
        table = recommendations
        query = select(table).order_by(table.c.namespace, table.c.function, table.c.option).limit(limit)
        if function is not None:
            query = query.where(*_of(table, function))
        if namespaces is not None:
            query = query.where(table.c.namespace.in_(sorted(namespaces)))
        with self._database.read() as connection:
            return tuple(_record(row) for row in connection.execute(query).mappings())


def _of(table: Table, function: FunctionId) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return table.c.namespace == function.namespace, table.c.function == function.name


def _gone(table: Table, last: ColumnElement[float]) -> Select[Any]:
    """Functions of its rows that are not there, or were made after the last of what the row rests on."""
    same = functions.c.namespace == table.c.namespace, functions.c.name == table.c.function
    there = select(functions.c.name).where(*same, functions.c.deleted.is_(False), functions.c.created_at <= last)
    return select(table.c.namespace, table.c.function).where(~there.exists())


def _lengths(row: RowMapping) -> RequestLengths:
    return RequestLengths(*(Sketch.from_json(row[name]) for name in ("prompt", "answer", "total")))


def _record(row: RowMapping) -> RecommendationRecord:
    values: dict[str, Any] = {name: row[name] for name in row if name not in ("namespace", "function")}
    return RecommendationRecord(function=FunctionId(row["namespace"], row["function"]), **values)
