"""`pilotlight demo`: the whole way from one manifest to an answer from zero, and back to zero."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    state: Annotated[Path, typer.Option(help="Folder of the demo's own platform; kept for the next run.")] = Path(
        ".demo"
    ),
    record: Annotated[
        Path | None, typer.Option(hidden=True, help="Save the terminal's output as an SVG picture.")
    ] = None,
) -> None:
    """Show it all in a few minutes.

    Runs a platform of its own, deploys a small chat model, calls it from zero, and watches it go back to zero.
    """
    from pilotlight.platform.demo.story import run

    run(state.absolute(), record)
