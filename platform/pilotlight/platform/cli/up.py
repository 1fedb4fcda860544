"""`pilotlight up`: the embedded platform, until Ctrl-C."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pilotlight.platform.cli.errors import REFUSED, CommandError
from pilotlight.platform.cli.target import target
from pilotlight.platform.settings import DEFAULT_PORT

if TYPE_CHECKING:
    from pilotlight.platform.settings import Settings


def up(
    context: typer.Context,
    state: Annotated[
        Path | None, typer.Option(help="State folder; the same as --state before the command.", show_default=False)
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 is any free one.")] = DEFAULT_PORT,
    memory: Annotated[
        str, typer.Option(help="What all replicas may use together, as 12Gi.", show_default="80% of the machine's")
    ] = "",
    registry: Annotated[
        str,
        typer.Option(
            help="Where models are kept: file:///FOLDER, or s3 (endpoint and credentials by the AWS names).",
            show_default="s3 where AWS_ENDPOINT_URL_S3 is set, else a folder in the state folder",
        ),
    ] = "",
    cache: Annotated[str, typer.Option(help="Disk budget of the model cache.")] = "20Gi",
    drain: Annotated[str, typer.Option(help="How long streams may run on when a replica leaves.")] = "2m",
    shutdown: Annotated[str, typer.Option(help="How long they may run on after Ctrl-C.")] = "10s",
    start_timeout: Annotated[str, typer.Option(help="A cold start that takes longer is failed.")] = "30m",
    max_held: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Requests of one function that may wait for a start or a slot.")
    ] = 1000,
    allow_any_host: Annotated[
        bool, typer.Option("--allow-any-host", help="Listen beyond this machine; there is no TLS.")
    ] = False,
) -> None:
    """Run the platform on this machine, until Ctrl-C.

    It listens on loopback, keeps everything in the state folder, and writes an admin key there.
    """
    from pilotlight.platform.cli.units import parse_bytes, parse_seconds
    from pilotlight.platform.settings import Settings, SettingsError

    folder = state.expanduser() if state else target(context).state
    try:
        settings = Settings(
            state=folder,
            host=host,
            port=port,
            memory_bytes=parse_bytes(memory, "--memory") if memory else None,
            registry=registry,
            cache_bytes=parse_bytes(cache, "--cache"),
            drain_seconds=parse_seconds(drain, "--drain"),
            shutdown_seconds=parse_seconds(shutdown, "--shutdown"),
            start_seconds=parse_seconds(start_timeout, "--start-timeout"),
            max_held=max_held,
            allow_any_host=allow_any_host,
        )
    except SettingsError as error:
        raise CommandError(str(error), code=REFUSED) from error
    serve(settings)


def serve(settings: Settings) -> None:
    """Blocks. Raises CommandError when it cannot begin."""
    from pilotlight.platform.database.connection import DatabaseError
    from pilotlight.platform.serve import run
    from pilotlight.platform.statefolder import StateFolderError

    def announce(url: str) -> None:
        print(f"pilotlight is up on {url}", flush=True)
        print(f"state and admin key: {settings.state}; end it with Ctrl-C", file=sys.stderr)

    try:
        run(settings, announce)
    except (StateFolderError, DatabaseError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise CommandError(f"{where} cannot be listened on ({error.strerror}); choose another --port") from error
