"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    _audit()
    _decisions()
    _functions()
    _keys()
    _replica_intervals()
    _start_phases()
    _usage()
    _revisions()
    _replicas()


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("key", sa.String(length=40), nullable=False),
        sa.Column("action", sa.String(length=40), nullable=False),
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index("ix_audit_at", "audit", ["at"], unique=False)


def _decisions() -> None:
    op.create_table(
        "decisions",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("function", sa.String(length=63), nullable=False),
        sa.Column("revision", sa.String(length=80), nullable=False),
        sa.Column("desired", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("sentence", sa.Text(), nullable=False),
        sa.Column("inputs", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decisions")),
    )
    op.create_index("ix_decisions_function", "decisions", ["namespace", "function", "at"], unique=False)


def _functions() -> None:
    op.create_table(
        "functions",
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("manifest", sa.JSON(), nullable=False),
        sa.Column("policy", sa.JSON(), nullable=False),
        sa.Column("revision", sa.String(length=80), nullable=False),
        sa.Column("revisions", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "name", name=op.f("pk_functions")),
    )


def _keys() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("namespaces", sa.JSON(), nullable=True),
        sa.Column("functions", sa.JSON(), nullable=True),
        sa.Column("admin", sa.Boolean(), nullable=False),
        sa.Column("revoked_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keys")),
        sa.UniqueConstraint("hash", name=op.f("uq_keys_hash")),
    )


def _replica_intervals() -> None:
    op.create_table(
        "replica_intervals",
        sa.Column("replica", sa.String(length=80), nullable=False),
        sa.Column("start", sa.Float(), nullable=False),
        sa.Column("end", sa.Float(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("function", sa.String(length=63), nullable=False),
        sa.Column("revision", sa.String(length=80), nullable=False),
        sa.Column("caused_by", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("replica", "start", name=op.f("pk_replica_intervals")),
    )
    op.create_index("ix_intervals_function", "replica_intervals", ["namespace", "function", "start"], unique=False)


def _start_phases() -> None:
    op.create_table(
        "start_phases",
        sa.Column("replica", sa.String(length=80), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("seconds", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("replica", name=op.f("pk_start_phases")),
    )
    op.create_index("ix_start_phases_digest", "start_phases", ["digest", "kind", "at"], unique=False)


def _usage() -> None:
    op.create_table(
        "usage",
        sa.Column("request", sa.String(length=80), nullable=False),
        sa.Column("key", sa.String(length=40), nullable=False),
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("function", sa.String(length=63), nullable=False),
        sa.Column("revision", sa.String(length=80), nullable=False),
        sa.Column("replica", sa.String(length=80), nullable=False),
        sa.Column("admitted_at", sa.Float(), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=False),
        sa.Column("queue_seconds", sa.Float(), nullable=False),
        sa.Column("start_seconds", sa.Float(), nullable=False),
        sa.Column("serve_seconds", sa.Float(), nullable=False),
        sa.Column("ttft_seconds", sa.Float(), nullable=True),
        sa.Column("cold", sa.Boolean(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("request", name=op.f("pk_usage")),
    )
    op.create_index("ix_usage_function", "usage", ["namespace", "function", "admitted_at"], unique=False)
    op.create_index("ix_usage_key", "usage", ["key", "admitted_at"], unique=False)
    op.create_index("ix_usage_outcome", "usage", ["outcome"], unique=False)


def _revisions() -> None:
    op.create_table(
        "revisions",
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("function", sa.String(length=63), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("engine_key", sa.String(length=80), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("template", sa.JSON(), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["namespace", "function"],
            ["functions.namespace", "functions.name"],
            name=op.f("fk_revisions_namespace_functions"),
        ),
        sa.PrimaryKeyConstraint("namespace", "name", name=op.f("pk_revisions")),
    )


def _replicas() -> None:
    op.create_table(
        "replicas",
        sa.Column("id", sa.String(length=80), nullable=False),
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("function", sa.String(length=63), nullable=False),
        sa.Column("revision", sa.String(length=80), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("desired", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("cpus", sa.JSON(), nullable=False),
        sa.Column("devices", sa.JSON(), nullable=False),
        sa.Column("caused_by", sa.String(length=40), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["namespace", "revision"],
            ["revisions.namespace", "revisions.name"],
            name=op.f("fk_replicas_namespace_revisions"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replicas")),
    )
    op.create_index("ix_replicas_live", "replicas", ["ended_at", "namespace", "function"], unique=False)
