"""`pilotlight get` and `pilotlight describe`."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import typer

from pilotlight.platform.cli.output import (
    Column,
    Form,
    age,
    number,
    show_rows,
    show_value,
    text,
)
from pilotlight.platform.cli.session import connect


class Kind(StrEnum):
    """What can be listed."""

    FUNCTIONS = "functions"
    REVISIONS = "revisions"
    REPLICAS = "replicas"
    MODELS = "models"
    KEYS = "keys"
    DECISIONS = "decisions"


COLUMNS: Mapping[Kind, tuple[Column, ...]] = {
    Kind.FUNCTIONS: (
        Column("NAMESPACE", "namespace", text),
        Column("NAME", "name", text),
        Column("TASK", "task", text),
        Column("MODEL", "model", text),
        Column("REVISION", "revision", text),
        Column("READY", "ready", number, right=True),
        Column("MIN", "min", number, right=True),
        Column("MAX", "max", number, right=True),
        Column("AGE", "created_at", age, right=True),
    ),
}


def get(
    context: typer.Context,
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    form: Annotated[Form, typer.Option("-o", "--output", help="How to print it.")] = Form.TABLE,
    as_json: Annotated[bool, typer.Option("--json", help="The same as -o json.")] = False,
) -> None:
    """List what the platform knows."""
    with connect(context) as client:
        rows = client.rows(kind)
    show_rows(rows, COLUMNS[kind], Form.JSON if as_json else form, empty=f"no {kind}")


def describe(
    context: typer.Context,
    function: Annotated[str, typer.Argument(help="NAME or NAMESPACE/NAME.")],
    form: Annotated[Form, typer.Option("-o", "--output", help="How to print it.")] = Form.TABLE,
    as_json: Annotated[bool, typer.Option("--json", help="The same as -o json.")] = False,
) -> None:
    """Show one function: revision, sizes, replicas, decisions."""
    with connect(context) as client:
        row = client.describe(function)
    show_value(row, Form.JSON if as_json else form)
