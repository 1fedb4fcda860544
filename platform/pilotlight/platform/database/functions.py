"""Functions and their revisions."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select, update

from pilotlight.activator.values import FunctionId
from pilotlight.platform.database.connection import Database, upsert
from pilotlight.platform.database.records import insert_audit
from pilotlight.platform.database.schema import functions, revisions
from pilotlight.platform.values import AuditRecord, Function, Policy, Revision, Template


@dataclass(frozen=True)
class Change:
    """One function to write; `template` None keeps the revision that it has."""

    id: FunctionId
    manifest: dict[str, Any]
    policy: Policy
    template: Template | None
    reasons: tuple[str, ...] = ()


EngineKey = Callable[[str, str], str]
"""The engine key of a revision, by namespace and name."""


def random_key(_namespace: str, _revision: str) -> str:
    """Kept in the database alone."""
    return secrets.token_urlsafe(32)


class Functions:
    """Reads and writes; every method is one transaction."""

    def __init__(self, database: Database, engine_key: EngineKey = random_key) -> None:
        """`engine_key` gives the key of a new revision."""
        self._database = database
        self._engine_key = engine_key

    def all(self) -> tuple[Function, ...]:
        """Those that are not deleted, by name."""
        query = select(functions).where(functions.c.deleted.is_(False))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(functions.c.namespace, functions.c.name)).mappings().all()
        return tuple(_function(row) for row in rows)

    def get(self, function: FunctionId) -> Function | None:
        with self._database.read() as connection:
            row = _row(connection, function)
        return None if row is None or row["deleted"] else _function(row)

    def revisions(self, function: FunctionId | None = None) -> tuple[Revision, ...]:
        """Oldest first."""
        query = select(revisions).order_by(revisions.c.namespace, revisions.c.function, revisions.c.number)
        if function is not None:
            query = query.where(revisions.c.namespace == function.namespace, revisions.c.function == function.name)
        with self._database.read() as connection:
            return tuple(_revision(row) for row in connection.execute(query).mappings())

    def apply(self, changes: Iterable[Change], now: float, key: str = "") -> tuple[Function, ...]:
        """Write all of them or none, with their audit rows in the name of `key`."""
        with self._database.write() as connection:
            return tuple(_apply(connection, change, self._engine_key, now, key) for change in changes)

    def delete(self, function: FunctionId, now: float, key: str = "") -> bool:
        """Mark it deleted; False: there is none. Its revisions stay, so that no name is ever used twice."""
        with self._database.write() as connection:
            done = connection.execute(
                update(functions)
                .where(
                    functions.c.namespace == function.namespace,
                    functions.c.name == function.name,
                    functions.c.deleted.is_(False),
                )
                .values(deleted=True, updated_at=now)
            )
            if done.rowcount:
                insert_audit(connection, AuditRecord(now, key, "delete", str(function)))
            return done.rowcount > 0


def _apply(connection: Connection, change: Change, engine_key: EngineKey, now: float, key: str) -> Function:
    row = _row(connection, change.id)
    known = None if row is None else _function(row)
    made = 0 if row is None else int(row["revisions"])
    if change.template is None:
        if known is None:
            raise ValueError(f"{change.id} has no revision to keep")
        name = known.revision
    else:
        made += 1
        name = f"{change.id.name}-{made:05d}"
    created = now if known is None or known.deleted else known.created_at
    function = Function(change.id, change.manifest, change.policy, name, created, now)
    upsert(connection, functions, [_values(function, made)])
    if change.template is not None:
        secret = engine_key(change.id.namespace, name)
        revision = Revision(change.id, name, made, now, secret, change.template, change.reasons)
        connection.execute(insert(revisions), [_revision_values(revision)])
    what = "created" if known is None or known.deleted else "updated"
    insert_audit(connection, AuditRecord(now, key, "apply", str(change.id), {"change": what, "revision": name}))
    return function


def _row(connection: Connection, function: FunctionId) -> RowMapping | None:
    query = select(functions).where(functions.c.namespace == function.namespace, functions.c.name == function.name)
    return connection.execute(query).mappings().one_or_none()


def _values(function: Function, made: int) -> dict[str, Any]:
    return {
        "namespace": function.id.namespace,
        "name": function.id.name,
        "manifest": dict(function.manifest),
        "policy": asdict(function.policy),
        "revision": function.revision,
        "revisions": made,
        "created_at": function.created_at,
        "updated_at": function.updated_at,
        "deleted": function.deleted,
    }


def _function(row: RowMapping) -> Function:
    return Function(
        id=FunctionId(row["namespace"], row["name"]),
        manifest=row["manifest"],
        policy=Policy(**row["policy"]),
        revision=row["revision"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        deleted=row["deleted"],
    )


def _revision_values(revision: Revision) -> dict[str, Any]:
    return {
        "namespace": revision.function.namespace,
        "name": revision.name,
        "function": revision.function.name,
        "number": revision.number,
        "created_at": revision.created_at,
        "engine_key": revision.engine_key,
        "digest": revision.template.digest,
        "template": asdict(revision.template),
        "reasons": list(revision.reasons),
    }


def _revision(row: RowMapping) -> Revision:
    template = Template(**row["template"])
    adapters = tuple((str(name), str(digest)) for name, digest in template.adapters)
    return Revision(
        function=FunctionId(row["namespace"], row["function"]),
        name=row["name"],
        number=row["number"],
        created_at=row["created_at"],
        engine_key=row["engine_key"],
        template=replace(template, adapters=adapters, device_pool=tuple(template.device_pool)),
        reasons=tuple(row["reasons"]),
    )


def same(left: Template, right: Template) -> bool:
    """Whether two templates are the same engine, as the database would keep them."""
    return json.dumps(asdict(left), sort_keys=True) == json.dumps(asdict(right), sort_keys=True)
