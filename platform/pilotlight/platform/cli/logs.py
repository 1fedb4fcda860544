"""`pilotlight logs`: what a function's engines wrote."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from pilotlight.platform.cli.output import safe
from pilotlight.platform.cli.target import connect


def logs(
    context: typer.Context,
    function: Annotated[str, typer.Argument(help="NAME or NAMESPACE/NAME.")],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with new lines until Ctrl-C.")] = False,
    tail: Annotated[int, typer.Option(min=0, max=100_000, help="How many of the last lines.")] = 200,
    replica: Annotated[str, typer.Option(help="Which replica's; the newest when absent.")] = "",
) -> None:
    """Show what a replica's engine wrote, newest last."""
    with (
        connect(context) as client,
        client.log_lines(function, follow=follow, tail=tail, replica=replica) as lines,
    ):
        empty = True
        for line in lines:
            empty = False
            print(safe(line), flush=follow)
    if empty:
        print(f"no log yet: no replica of {function} has run", file=sys.stderr)
