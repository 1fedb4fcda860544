"""`pilotlight models`: the registry."""

from __future__ import annotations

import typer

app = typer.Typer(help="Push, pull, list, tag, verify and import models.", no_args_is_help=True, rich_markup_mode=None)
