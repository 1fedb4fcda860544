"""`pilotlight up`: the embedded platform."""

from __future__ import annotations

import typer


def up(context: typer.Context) -> None:
    """Run the platform on this machine."""
