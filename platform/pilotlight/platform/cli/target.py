"""What the root command hands to every other: the address, the state folder, and a client made from them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pilotlight.platform.cli.settings import Settings, resolve

if TYPE_CHECKING:
    from pilotlight.platform.cli.client import Client


@dataclass(frozen=True)
class Target:
    """The global options."""

    url: str
    state: Path


def target(context: typer.Context) -> Target:
    found = context.find_object(Target)
    assert found is not None  # the root command always sets it
    return found


def settings(context: typer.Context) -> Settings:
    chosen = target(context)
    return resolve(chosen.url, chosen.state, os.environ)


def connect(context: typer.Context) -> Client:
    from pilotlight.platform.cli.client import Client

    return Client(settings(context))
