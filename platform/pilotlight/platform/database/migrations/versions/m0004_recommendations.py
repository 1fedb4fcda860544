"""What is learned of functions' requests, and what is proposed for their engines."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "request_lengths",
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("function", sa.String(length=63), nullable=False),
        sa.Column("prompt", sa.JSON(), nullable=False),
        sa.Column("answer", sa.JSON(), nullable=False),
        sa.Column("total", sa.JSON(), nullable=False),
        sa.Column("until", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "function", name=op.f("pk_request_lengths")),
    )
    op.create_table(
        "recommendations",
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("function", sa.String(length=63), nullable=False),
        sa.Column("option", sa.String(length=80), nullable=False),
        sa.Column("revision", sa.String(length=80), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("now", sa.BigInteger(), nullable=True),
        sa.Column("proposed", sa.BigInteger(), nullable=False),
        sa.Column("low", sa.BigInteger(), nullable=False),
        sa.Column("high", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "function", "option", name=op.f("pk_recommendations")),
    )
