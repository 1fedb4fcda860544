"""`pilotlight deploy` and `pilotlight delete`."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pilotlight.platform.cli.errors import REFUSED, CommandError
from pilotlight.platform.cli.output import Form, show_value
from pilotlight.platform.cli.target import connect

if TYPE_CHECKING:
    from pilotlight.platform.cli.client import Client

MAX_MANIFEST_BYTES = 2**20
POLL_SECONDS = 0.5


def deploy(
    context: typer.Context,
    file: Annotated[Path, typer.Option("-f", "--file", help="Manifest, one or several documents; - is stdin.")],
    wait: Annotated[bool, typer.Option("--wait", help="Return when the minimum of replicas is ready.")] = False,
    timeout: Annotated[float, typer.Option(min=1.0, help="With --wait: give up after so many seconds.")] = 900.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print what changed as JSON.")] = False,
) -> None:
    """Apply a manifest: all of its functions, or none."""
    manifest = read_manifest(file)
    check(manifest, file)
    with connect(context) as client:
        changes = client.apply(manifest)
        if as_json:
            show_value(changes, Form.JSON)
        else:
            print("\n".join(lines_of(changes)))
        if wait:
            for change in changes:
                wait_ready(client, full_name(change), time.monotonic() + timeout)


def read_manifest(file: Path) -> str:
    """Raises CommandError when it cannot be read, is too long or no UTF-8."""
    try:
        raw = sys.stdin.buffer.read(MAX_MANIFEST_BYTES + 1) if str(file) == "-" else _read(file)
        text = raw.decode("utf-8")
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}; give a readable file, or - for stdin", code=REFUSED) from error
    except UnicodeDecodeError as error:
        raise CommandError(
            f"{file}: byte {error.start} is no UTF-8; save the manifest as UTF-8", code=REFUSED
        ) from error
    if len(raw) > MAX_MANIFEST_BYTES:
        raise CommandError(f"{file} is longer than {MAX_MANIFEST_BYTES} bytes; split it", code=REFUSED)
    return text


def _read(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(MAX_MANIFEST_BYTES + 1)


def lines_of(changes: Sequence[Mapping[str, Any]]) -> list[str]:
    """`team-a/chat created (chat-00001)`, and under it how its size was arrived at."""
    lines = []
    for change in changes:
        revision = f" ({change['revision']})" if change.get("revision") else ""
        lines.append(f"{full_name(change)} {change.get('change', 'applied')}{revision}")
        if change.get("change") != "unchanged":
            lines += [f"  {reason}" for reason in change.get("reasons") or ()]
    return lines


def full_name(row: Mapping[str, Any]) -> str:
    return f"{row['namespace']}/{row['name']}"


def wait_ready(client: Client, function: str, deadline: float) -> None:
    """Return when as many replicas are ready as the function always keeps. Raises CommandError."""
    while True:
        row = client.function(function)
        least, ready = int(row.get("min") or 0), int(row.get("ready") or 0)
        if ready >= least:
            state = f"{ready} ready" if least else "ready to be called; the first request starts it"
            print(f"{function}: {state}", file=sys.stderr)
            return
        if row.get("failure"):
            raise CommandError(f"{function} cannot start: {row['failure']}; see `pilotlight logs {function}`")
        if time.monotonic() > deadline:
            raise CommandError(
                f"{function}: {ready} of {least} replicas are ready; see `pilotlight describe {function}`"
            )
        time.sleep(POLL_SECONDS)


def delete(
    context: typer.Context,
    function: Annotated[str, typer.Argument(help="NAME or NAMESPACE/NAME.")],
) -> None:
    """Delete a function. Its running requests finish; its usage stays in the ledger."""
    with connect(context) as client:
        client.delete(function)
    print(f"{function} deleted")


def check(manifest: str, file: Path) -> None:
    """Refuse here what the platform would refuse, so that the lines carry the file's name."""
    from pilotlight.platform.manifest import ManifestError, load

    source = "stdin" if str(file) == "-" else str(file)
    try:
        load(manifest, source)
    except ManifestError as error:
        findings = tuple(map(str, error.items))
        raise CommandError(f"{source} is refused, nothing was applied", details=findings, code=REFUSED) from error
