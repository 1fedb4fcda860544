"""`pilotlight logs`: what a function's engines wrote."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pilotlight.platform.cli.output import safe
from pilotlight.platform.cli.target import connect

if TYPE_CHECKING:
    from pilotlight.platform.cli.client import Client


def logs(
    context: typer.Context,
    function: Annotated[str, typer.Argument(help="NAME or NAMESPACE/NAME.")],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with new lines until Ctrl-C.")] = False,
    tail: Annotated[int, typer.Option(min=0, max=100_000, help="How many of the last lines.")] = 200,
    replica: Annotated[str, typer.Option(help="Which replica's; the newest when absent.")] = "",
) -> None:
    """Show what a replica's engine wrote, newest last."""
    empty = True
    with (
        connect(context) as client,
        client.log_lines(function, follow=follow, tail=tail, replica=replica) as lines,
    ):
        for line in lines:
            empty = False
            print(safe(line), flush=follow)
        if empty:
            print(f"no log yet: {_reason(client, function)}", file=sys.stderr)


def _reason(client: Client, function: str) -> str:
    from pilotlight.platform.cli.client import full_name

    replicas = client.rows("replicas", {"function": full_name(function), "limit": 1})
    if replicas:
        return f"the engine of {replicas[0]['id']} ({replicas[0]['state']}) has not written anything"
    return f"no replica of {function} has run"
