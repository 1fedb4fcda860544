"""`pilotlight`: the commands, and the one place that turns errors into exit codes.

Whatever is heavy is imported inside the commands, so that `--help` and completion answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pilotlight.platform.cli import (
    call,
    demo,
    deploy,
    describe,
    detector,
    doctor,
    get,
    install,
    keys,
    logs,
    models,
    processes,
    recommend,
    simulate,
    up,
    usage,
)
from pilotlight.platform.cli.errors import CommandError
from pilotlight.platform.cli.settings import DEFAULT_URL
from pilotlight.platform.cli.target import Target
from pilotlight.platform.settings import default_state

# Plain help and plain usage errors: one sentence on stderr reads the same in a terminal, a pipe and a CI log.
app = typer.Typer(
    name="pilotlight",
    help="Serverless, scale-to-zero functions for language models.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("pilotlight"))
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    url: Annotated[
        str, typer.Option(envvar="PILOTLIGHT_URL", help="Where the platform listens.", show_default=DEFAULT_URL)
    ] = "",
    state: Annotated[
        Path | None,
        typer.Option(
            envvar="PILOTLIGHT_STATE",
            help="State folder of a platform on this machine.",
            show_default="~/.local/state/pilotlight",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """The key is PILOTLIGHT_KEY, or the admin key of the state folder when the platform is on this machine."""
    del version
    context.obj = Target(url, state.expanduser() if state else default_state())


app.command()(up.up)
app.command()(demo.demo)
app.command()(deploy.deploy)
app.command()(deploy.delete)
app.command()(get.get)
app.command()(describe.describe)
app.command()(logs.logs)
app.command()(call.call)
app.command()(usage.usage)
app.command()(install.install)
app.command()(processes.operator)
app.command()(processes.activator)
app.command()(doctor.doctor)
app.command()(simulate.simulate)
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
app.add_typer(recommend.app, name="recommend")
app.add_typer(detector.app, name="detector")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave the process: 0 done, 1 failed, 2 wrong usage or refused manifest, 130 interrupted."""
    try:
        app(list(arguments) if arguments is not None else None, prog_name="pilotlight")
    except CommandError as error:
        report(error)
        sys.exit(error.code)


def report(error: CommandError) -> None:
    print(f"error: {error}", file=sys.stderr)
    for line in error.details:
        print(f"  {line}", file=sys.stderr)
