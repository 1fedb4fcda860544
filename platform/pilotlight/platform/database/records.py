"""Keys, decisions and the audit trail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update

from pilotlight.activator.values import FunctionId
from pilotlight.platform.database.connection import Database, insert_new
from pilotlight.platform.database.schema import audit, decisions, keys
from pilotlight.platform.values import AuditRecord, DecisionRecord, KeyRecord

DECISIONS_KEPT = 100_000
"""About a month of a busy machine; the oldest go first."""


class Keys:
    """API keys; the secrets themselves are never here."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> tuple[KeyRecord, ...]:
        """Revoked ones too, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(keys).order_by(keys.c.created_at, keys.c.id)).mappings().all()
        return tuple(_key(row) for row in rows)

    def version(self) -> tuple[int, int]:
        """Differs from an earlier one when a key was made or revoked since; keys are never deleted."""
        query = select(func.count(), func.count(keys.c.revoked_at)).select_from(keys)
        with self._database.read() as connection:
            made, revoked = connection.execute(query).one()
        return made, revoked

    def put(self, record: KeyRecord) -> bool:
        """Add it for the platform, with its audit row; False: it is there, revoked or not."""
        with self._database.write() as connection:
            done = insert_new(connection, keys, _key_values(record))
            if done:
                insert_audit(connection, _made(record, ""))
            return done

    def add(self, record: KeyRecord, by: str) -> None:
        """With its audit row; `by` is the key that asked for it, empty: the platform itself."""
        with self._database.write() as connection:
            connection.execute(insert(keys), [_key_values(record)])
            insert_audit(connection, _made(record, by))

    def revoke(self, key: str, now: float, by: str) -> bool:
        """With its audit row. False: there is none, or it is revoked already."""
        change = update(keys).where(keys.c.id == key, keys.c.revoked_at.is_(None)).values(revoked_at=now)
        with self._database.write() as connection:
            done = connection.execute(change).rowcount > 0
            if done:
                insert_audit(connection, AuditRecord(now, by, "revoke key", key))
            return done


class Records:
    """What happened and why."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def decided(self, records: Sequence[DecisionRecord]) -> None:
        if not records:
            return
        with self._database.write() as connection:
            connection.execute(insert(decisions), [_decision_values(record) for record in records])
            newest = connection.execute(select(func.max(decisions.c.id))).scalar_one()
            connection.execute(delete(decisions).where(decisions.c.id <= newest - DECISIONS_KEPT))

    def decisions(
        self, function: FunctionId | None, namespaces: frozenset[str] | None = None, limit: int = 100
    ) -> tuple[DecisionRecord, ...]:
        """Newest first."""
        query = select(decisions).order_by(decisions.c.id.desc()).limit(limit)
        if function is not None:
            query = query.where(decisions.c.namespace == function.namespace, decisions.c.function == function.name)
        if namespaces is not None:
            query = query.where(decisions.c.namespace.in_(sorted(namespaces)))
        with self._database.read() as connection:
            return tuple(_decision(row) for row in connection.execute(query).mappings())

    def audited(self, record: AuditRecord) -> None:
        with self._database.write() as connection:
            insert_audit(connection, record)

    def audit(self, limit: int = 100) -> tuple[AuditRecord, ...]:
        """Newest first."""
        query = select(audit).order_by(audit.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
        return tuple(AuditRecord(r["at"], r["key"], r["action"], r["target"], r["detail"]) for r in rows)


def insert_audit(connection: Connection, record: AuditRecord) -> None:
    """In the transaction of what it tells of, so that neither is there without the other."""
    values = {"at": record.at, "key": record.key, "action": record.action, "target": record.target[:200]}
    connection.execute(insert(audit), [{**values, "detail": dict(record.detail)}])


def _made(record: KeyRecord, by: str) -> AuditRecord:
    return AuditRecord(record.created_at, by, "create key", record.id, {"name": record.name, "admin": record.admin})


def _key_values(record: KeyRecord) -> dict[str, Any]:
    functions = None if record.functions is None else [str(function) for function in record.functions]
    return {
        "id": record.id,
        "name": record.name,
        "hash": record.hash,
        "created_at": record.created_at,
        "namespaces": None if record.namespaces is None else list(record.namespaces),
        "functions": functions,
        "admin": record.admin,
        "revoked_at": record.revoked_at,
    }


def _key(row: RowMapping) -> KeyRecord:
    functions = row["functions"]
    return KeyRecord(
        id=row["id"],
        name=row["name"],
        hash=row["hash"],
        created_at=row["created_at"],
        namespaces=None if row["namespaces"] is None else tuple(row["namespaces"]),
        functions=None if functions is None else tuple(FunctionId(*text.split("/", 1)) for text in functions),
        admin=row["admin"],
        revoked_at=row["revoked_at"],
    )


def _decision_values(record: DecisionRecord) -> dict[str, Any]:
    return {
        "at": record.at,
        "namespace": record.function.namespace,
        "function": record.function.name,
        "revision": record.revision,
        "desired": record.desired,
        "reason": record.reason,
        "sentence": record.sentence,
        "inputs": dict(record.inputs),
    }


def _decision(row: RowMapping) -> DecisionRecord:
    return DecisionRecord(
        at=row["at"],
        function=FunctionId(row["namespace"], row["function"]),
        revision=row["revision"],
        desired=row["desired"],
        reason=row["reason"],
        sentence=row["sentence"],
        inputs=row["inputs"],
    )
