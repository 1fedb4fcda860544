"""`pilotlight logs`: what a function's engines wrote."""

from __future__ import annotations

from typing import Annotated

import typer

from pilotlight.platform.cli.output import safe
from pilotlight.platform.cli.session import connect


def logs(
    context: typer.Context,
    function: Annotated[str, typer.Argument(help="NAME or NAMESPACE/NAME.")],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with new lines until Ctrl-C.")] = False,
    tail: Annotated[int, typer.Option(min=0, max=100_000, help="How many of the last lines.")] = 200,
) -> None:
    """Show the log of a function's replicas, the newest last."""
    with connect(context) as client, client.log_lines(function, follow=follow, tail=tail) as lines:
        for line in lines:
            print(safe(line), flush=follow)
