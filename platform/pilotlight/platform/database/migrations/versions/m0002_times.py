"""Indexes for what is asked for by time alone: the newest rows of the ledger, and the last hours of the replicas."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_index("ix_usage_admitted_at", "usage", ["admitted_at"], unique=False)
    op.create_index("ix_intervals_end", "replica_intervals", ["end"], unique=False)
