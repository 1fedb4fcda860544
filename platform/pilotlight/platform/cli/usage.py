"""`pilotlight usage`: the ledger, summed up."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from pilotlight.platform.cli.output import Column, Form, number, seconds, show_rows, text
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
    columns = (Column(by.upper(), "group", text), *COLUMNS, *(() if by is Group.DAY else REPLICA_COLUMNS))
    show_rows(rows, columns, Form.JSON if as_json else Form.TABLE, empty="no requests yet")
