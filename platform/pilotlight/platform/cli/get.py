"""`pilotlight get` and `pilotlight describe`."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from pilotlight.platform.cli import keys, models
from pilotlight.platform.cli.errors import REFUSED, CommandError
from pilotlight.platform.cli.output import Column, Form, age, clock_time, digest, number, show_rows, size, text
from pilotlight.platform.cli.target import connect


class Kind(StrEnum):
    """What can be listed."""

    FUNCTIONS = "functions"
    REVISIONS = "revisions"
    REPLICAS = "replicas"
    MODELS = "models"
    KEYS = "keys"
    DECISIONS = "decisions"
    RECOMMENDATIONS = "recommendations"


NAMESPACE = Column("NAMESPACE", "namespace", text)
FUNCTION = Column("FUNCTION", "function", text)
REVISION = Column("REVISION", "revision", text)
AGE = Column("AGE", "created_at", age, right=True)
RECOMMENDED = (
    REVISION,
    Column("OPTION", "option", text),
    Column("NOW", "now", number, right=True),
    Column("PROPOSED", "proposed", number, right=True),
    Column("FROM", "low", number, right=True),
    Column("TO", "high", number, right=True),
    Column("WHY", "reason", text),
    Column("AGE", "at", age, right=True),
)
"""Of one function."""
COLUMNS: Mapping[Kind, tuple[Column, ...]] = {
    Kind.FUNCTIONS: (
        NAMESPACE,
        Column("NAME", "name", text),
        Column("TASK", "task", text),
        Column("MODEL", "model", text),
        REVISION,
        Column("READY", "ready", number, right=True),
        Column("START", "starting", number, right=True),
        Column("MAX", "max", number, right=True),
        Column("QUEUE", "queued", number, right=True),
        Column("BUSY", "in_flight", number, right=True),
        AGE,
    ),
    Kind.REVISIONS: (
        NAMESPACE,
        FUNCTION,
        Column("REVISION", "name", text),
        Column("MODEL", "model", text),
        Column("DIGEST", "digest", digest),
        Column("CONTEXT", "context", number, right=True),
        Column("SLOTS", "slots", number, right=True),
        Column("CPUS", "cpus", text, right=True),
        Column("MEMORY", "memory_bytes", size, right=True),
        AGE,
    ),
    Kind.REPLICAS: (
        Column("REPLICA", "id", text),
        NAMESPACE,
        FUNCTION,
        REVISION,
        Column("STATE", "state", text),
        Column("PHASE", "phases", lambda value: phase_text(value)),
        Column("BUSY", "in_flight", number, right=True),
        Column("MEMORY", "memory_bytes", size, right=True),
        AGE,
        Column("MESSAGE", "message", text),
    ),
    Kind.MODELS: models.COLUMNS,
    Kind.KEYS: keys.COLUMNS,
    Kind.DECISIONS: (
        Column("TIME", "at", clock_time),
        NAMESPACE,
        FUNCTION,
        Column("DESIRED", "desired", number, right=True),
        Column("REASON", "reason", text),
        Column("WHY", "sentence", text),
    ),
    Kind.RECOMMENDATIONS: (NAMESPACE, FUNCTION, *RECOMMENDED),
}
OF_A_FUNCTION = (Kind.REVISIONS, Kind.REPLICAS, Kind.DECISIONS, Kind.RECOMMENDATIONS)


def phase_text(phases: object) -> str:
    """The phase that a start is in, with its percent; a dash when it is over."""
    last: Mapping[str, Any] = phases[-1] if isinstance(phases, list) and phases else {"end": 0}
    if last["end"] is not None:
        return "-"
    return str(last["name"]) if last["progress"] is None else f"{last['name']} {last['progress']:.0%}"


def get(
    context: typer.Context,
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    function: Annotated[str, typer.Option(help="Only this function's.")] = "",
    limit: Annotated[
        int, typer.Option(min=1, max=1000, help="Most of them; functions, models and keys are listed whole.")
    ] = 100,
    form: Annotated[Form, typer.Option("-o", "--output", help="How to print it.")] = Form.TABLE,
    as_json: Annotated[bool, typer.Option("--json", help="The same as -o json.")] = False,
) -> None:
    """List what the platform knows."""
    if function and kind not in OF_A_FUNCTION:
        raise CommandError(f"--function goes with {', '.join(OF_A_FUNCTION)}, not with {kind}", code=REFUSED)
    with connect(context) as client:
        rows = client.rows(kind, parameters(kind, function, limit))
    show_rows(rows, COLUMNS[kind], Form.JSON if as_json else form, empty=f"no {kind}")


def parameters(kind: Kind, function: str, limit: int) -> dict[str, str | int | float]:
    """Functions, models and keys are few: they are listed whole."""
    from pilotlight.platform.cli.client import full_name

    if kind not in OF_A_FUNCTION:
        return {}
    return {"limit": limit, "function": full_name(function)} if function else {"limit": limit}
