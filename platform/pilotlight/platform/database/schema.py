"""The tables; `migrations/` brings a database to this shape, and a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.types import TypeDecorator

REVISION = "0005"
"""The newest of `migrations/versions/`; a database that has it is opened as it is."""


class Words(TypeDecorator[str]):
    """Text that may quote a caller: what a database cannot keep of it is replaced."""

    impl: type[String] = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - the base's
        """JSON may hold half a surrogate pair, which is no UTF-8, and NUL, which PostgreSQL refuses."""
        if value is None:
            return None
        return value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


class ShortWords(Words):
    """The same with a length."""

    impl = String
    cache_ok = True


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

functions = Table(
    "functions",
    metadata,
    Column("namespace", String(63), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("manifest", JSON, nullable=False),
    Column("policy", JSON, nullable=False),
    Column("revision", String(80), nullable=False),
    Column("revisions", Integer, nullable=False),  # made so far; a number is never used twice
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("deleted", Boolean, nullable=False),
)

revisions = Table(
    "revisions",
    metadata,
    Column("namespace", String(63), primary_key=True),
    Column("name", String(80), primary_key=True),
    Column("function", String(63), nullable=False),
    Column("number", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("engine_key", String(80), nullable=False),
    Column("digest", String(80), nullable=False),
    Column("template", JSON, nullable=False),
    Column("reasons", JSON, nullable=False),
    ForeignKeyConstraint(["namespace", "function"], ["functions.namespace", "functions.name"]),
)

replicas = Table(
    "replicas",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("namespace", String(63), nullable=False),
    Column("function", String(63), nullable=False),
    Column("revision", String(80), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("desired", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("message", Words, nullable=False),
    Column("cpus", JSON, nullable=False),
    Column("devices", JSON, nullable=False),
    Column("caused_by", String(40), nullable=False),
    Column("ended_at", Float),
    ForeignKeyConstraint(["namespace", "revision"], ["revisions.namespace", "revisions.name"]),
    Index("ix_replicas_live", "ended_at", "namespace", "function"),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", ShortWords(120), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Column("created_at", Float, nullable=False),
    Column("namespaces", JSON),
    Column("functions", JSON),
    Column("admin", Boolean, nullable=False),
    Column("revoked_at", Float),
)

usage = Table(
    "usage",
    metadata,
    Column("request", String(80), primary_key=True),
    Column("key", String(40), nullable=False),
    Column("namespace", String(63), nullable=False),
    Column("function", String(63), nullable=False),
    Column("revision", String(80), nullable=False),
    Column("replica", String(80), nullable=False),
    Column("admitted_at", Float, nullable=False),
    Column("day", String(10), nullable=False),  # UTC date of admission
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("max_tokens", BigInteger),  # asked for; null: the request named none
    Column("queue_seconds", Float, nullable=False),
    Column("start_seconds", Float, nullable=False),
    Column("serve_seconds", Float, nullable=False),
    Column("ttft_seconds", Float),
    Column("cold", Boolean, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("status", Integer, nullable=False),
    Column("reason", Words, nullable=False),
    Column("writer", String(40), nullable=False, server_default=""),
    Index("ix_usage_function", "namespace", "function", "admitted_at"),
    Index("ix_usage_key", "key", "admitted_at"),
    Index("ix_usage_outcome", "outcome"),
    Index("ix_usage_admitted_at", "admitted_at"),
)

writers = Table(
    "writers",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("seen_at", Float, nullable=False),
)

replica_intervals = Table(
    "replica_intervals",
    metadata,
    Column("replica", String(80), primary_key=True),
    Column("start", Float, primary_key=True),
    Column("end", Float, nullable=False),
    Column("state", String(16), nullable=False),
    Column("namespace", String(63), nullable=False),
    Column("function", String(63), nullable=False),
    Column("revision", String(80), nullable=False),
    Column("caused_by", String(40), nullable=False),
    Index("ix_intervals_function", "namespace", "function", "start"),
    Index("ix_intervals_end", "end"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("namespace", String(63), nullable=False),
    Column("function", String(63), nullable=False),
    Column("revision", String(80), nullable=False),
    Column("desired", Integer, nullable=False),
    Column("reason", String(40), nullable=False),
    Column("sentence", Words, nullable=False),
    Column("inputs", JSON, nullable=False),
    Index("ix_decisions_function", "namespace", "function", "at"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("key", String(40), nullable=False),
    Column("action", String(40), nullable=False),
    Column("target", ShortWords(200), nullable=False),
    Column("detail", JSON, nullable=False),
    Index("ix_audit_at", "at"),
)

start_phases = Table(
    "start_phases",
    metadata,
    Column("replica", String(80), primary_key=True),
    Column("at", Float, nullable=False),
    Column("digest", String(80), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("seconds", JSON, nullable=False),  # by phase
    Index("ix_start_phases_digest", "digest", "kind", "at"),
)

request_lengths = Table(
    "request_lengths",
    metadata,
    Column("namespace", String(63), primary_key=True),
    Column("function", String(63), primary_key=True),
    Column("prompt", JSON, nullable=False),  # sketches
    Column("answer", JSON, nullable=False),
    Column("total", JSON, nullable=False),
    Column("until", Float, nullable=False),  # admissions up to then are in some row, or were passed over
)

recommendations = Table(
    "recommendations",
    metadata,
    Column("namespace", String(63), primary_key=True),
    Column("function", String(63), primary_key=True),
    Column("option", String(80), primary_key=True),
    Column("revision", String(80), nullable=False),
    Column("at", Float, nullable=False),
    Column("now", BigInteger),
    Column("proposed", BigInteger, nullable=False),
    Column("low", BigInteger, nullable=False),
    Column("high", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
)
