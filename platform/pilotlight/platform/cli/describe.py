"""`pilotlight describe`: all of one function on a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from pilotlight.platform.cli.get import RECOMMENDED
from pilotlight.platform.cli.output import (
    Column,
    Form,
    age,
    clock_time,
    number,
    seconds,
    show_table,
    show_value,
    size,
    table,
    text,
)
from pilotlight.platform.cli.target import connect, settings

FUNCTION: tuple[Column, ...] = (
    Column("Model", "function.model", text),
    Column("Digest", "function.digest", text),
    Column("Task", "function.task", text),
    Column("Revision", "function.revision", text),
    Column("URL", "function.url", text),
    Column("Failure", "function.failure", text),
    Column("Waits", "function.waits", text),
    Column("Keep alive", "function.keep_alive_seconds", seconds),
    Column("Context", "revision.context", lambda value: f"{number(value)} tokens"),
    Column("Slots", "revision.slots", number),
    Column("Memory", "revision.memory_bytes", size),
    Column("Weights", "revision.weight_bytes", size),
    Column("CPUs", "revision.cpus", text),
    Column("Created", "function.created_at", clock_time),
    Column("Updated", "function.updated_at", clock_time),
)
QUIET = frozenset({"Failure", "Waits"})
"""Left out when there is nothing to say."""
REPLICAS: tuple[Column, ...] = (
    Column("REPLICA", "id", text),
    Column("REVISION", "revision", text),
    Column("STATE", "state", text),
    Column("BUSY", "in_flight", number, right=True),
    Column("AGE", "created_at", age, right=True),
    Column("MESSAGE", "message", text),
)
DECISIONS: tuple[Column, ...] = (
    Column("TIME", "at", clock_time),
    Column("DESIRED", "desired", number, right=True),
    Column("WHY", "sentence", text),
)


def describe(
    context: typer.Context,
    function: Annotated[str, typer.Argument(help="NAME or NAMESPACE/NAME.")],
    form: Annotated[Form, typer.Option("-o", "--output", help="How to print it.")] = Form.TABLE,
    as_json: Annotated[bool, typer.Option("--json", help="The same as -o json.")] = False,
) -> None:
    """Show one function: sizes, replicas, decisions, advice."""
    with connect(context) as client:
        found = client.describe(function)
    if as_json or form is not Form.TABLE:
        show_value(found, Form.JSON if as_json else form)
        return
    print("\n".join(page(found, settings(context).url)))
    show_part("Recommendations", found["recommendations"], RECOMMENDED)
    show_part("Replicas", found["replicas"], REPLICAS)
    show_part("Decisions", found["decisions"], DECISIONS)


def page(found: Mapping[str, Any], platform: str) -> Iterator[str]:
    """The function's facts, how it was sized, and what a start is expected to take; `platform` is the URL's front."""
    function = {**found["function"], "url": platform + found["function"]["url"]}
    found = {**found, "function": function}
    yield f"{function['namespace']}/{function['name']}"
    yield f"  {'Replicas:':<12} {replica_text(function)}"
    for column in FUNCTION:
        value = column.read(_value(found, column.key))
        if value != "-" or column.title not in QUIET:
            yield f"  {column.title + ':':<12} {value}"
    if found["cap"] is not None:
        yield f"  {'Cap:':<12} {number(found['cap'])} in flight in a replica, as learned"
    if found["start_eta_seconds"]:
        yield f"  {'Cold start:':<12} {eta_text(found['start_eta_seconds'])}"
    if found["revision"]["reasons"]:
        yield "  Sized so:"
        yield from (f"    {reason}" for reason in found["revision"]["reasons"])


def replica_text(function: Mapping[str, Any]) -> str:
    return (
        f"{function['ready']} ready, {function['starting']} starting, {function['min']} to {function['max']} allowed; "
        f"{function['queued']} queued, {function['in_flight']} in flight"
    )


def eta_text(phases: Mapping[str, float]) -> str:
    """`about 12.3 s: fetch 400 ms, load 3.1 s, ...`."""
    parts = ", ".join(f"{phase} {seconds(length)}" for phase, length in phases.items() if length)
    return f"about {seconds(sum(phases.values()))}: {parts}"


def show_part(title: str, rows: Sequence[Mapping[str, object]], columns: Sequence[Column]) -> None:
    print(f"\n{title}{'' if rows else ': none'}")
    if rows:
        show_table(table(rows, columns))


def _value(found: Mapping[str, Any], key: str) -> object:
    part, _, name = key.partition(".")
    value: object = found[part][name]
    return value
