"""How long an answer a request has asked for at most."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("usage", sa.Column("max_tokens", sa.BigInteger(), nullable=True))
