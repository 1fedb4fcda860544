"""`pilotlight usage`: the ledger, summed up."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from pilotlight.platform.cli.output import Column, Form, number, seconds, show_rows, show_value, text
from pilotlight.platform.cli.target import connect


class Group(StrEnum):
    """What the ledger is summed by."""

    KEY = "key"
    FUNCTION = "function"
    DAY = "day"


COLUMNS: tuple[Column, ...] = (
    Column("REQUESTS", "requests", number, right=True),
    Column("COLD", "cold", number, right=True),
    Column("OK", "ok", number, right=True),
    Column("PROMPT", "prompt_tokens", number, right=True),
    Column("CACHED", "cached_tokens", number, right=True),
    Column("ANSWER", "completion_tokens", number, right=True),
    Column("QUEUE", "queue_seconds", seconds, right=True),
    Column("START", "start_seconds", seconds, right=True),
    Column("SERVE", "serve_seconds", seconds, right=True),
)
OTHERWISE = Column("NOT OK", "not_ok", text)
"""How the others ended; the last column, and only where there are any."""
OUTCOMES = ("rejected", "cancelled", "failed", "unknown")
REPLICA_COLUMNS: tuple[Column, ...] = (
    Column("REPLICA-START", "replica_starting_seconds", seconds, right=True),
    Column("REPLICA-SERVE", "replica_serving_seconds", seconds, right=True),
    Column("REPLICA-IDLE", "replica_idle_seconds", seconds, right=True),
)
"""What the replicas cost beside the requests that they served; a day's are not told."""


def usage(
    context: typer.Context,
    by: Annotated[Group, typer.Option(help="What to sum up by.")] = Group.FUNCTION,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """Show requests, tokens and seconds, by key, function or day."""
    with connect(context) as client:
        rows = client.rows("usage", {"by": by})
    if as_json:
        show_value(rows, Form.JSON)
        return
    shown = [{**row, OTHERWISE.key: not_ok(row)} for row in rows]
    columns = (Column(by.upper(), "group", text), *COLUMNS, *(() if by is Group.DAY else REPLICA_COLUMNS))
    others = (OTHERWISE,) if any(row[OTHERWISE.key] for row in shown) else ()
    show_rows(shown, (*columns, *others), Form.TABLE, empty="no requests yet")


def not_ok(row: Mapping[str, Any]) -> str:
    """`3 rejected, 1 unknown`; empty when all were answered."""
    return ", ".join(f"{number(row[outcome])} {outcome}" for outcome in OUTCOMES if row[outcome])
