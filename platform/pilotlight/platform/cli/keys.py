"""`pilotlight keys`: API keys and what they may do."""

from __future__ import annotations

import re
import sys
from typing import Annotated

import typer

from pilotlight.platform.cli.errors import REFUSED, CommandError
from pilotlight.platform.cli.output import Column, Form, age, show_rows, show_value, text
from pilotlight.platform.cli.target import connect

app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True, rich_markup_mode=None)

NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
FULL_NAME = re.compile(rf"{NAME.pattern}/{NAME.pattern}")
COLUMNS: tuple[Column, ...] = (
    Column("ID", "id", text),
    Column("NAME", "name", text),
    Column("ADMIN", "admin", text),
    Column("NAMESPACES", "namespaces", text),
    Column("FUNCTIONS", "functions", text),
    Column("AGE", "created_at", age, right=True),
    Column("REVOKED", "revoked_at", age, right=True),
)


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Who or what the key is for.")],
    namespace: Annotated[list[str] | None, typer.Option(help="Namespace it may use; may be repeated.")] = None,
    function: Annotated[
        list[str] | None, typer.Option(help="NAMESPACE/NAME that it may call; may be repeated.")
    ] = None,
    admin: Annotated[bool, typer.Option("--admin", help="It may change everything.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the key and its scopes as JSON.")] = False,
) -> None:
    """Create a key. The secret is printed once, alone on stdout; the platform keeps only its hash."""
    if admin and (namespace or function):
        raise CommandError("--admin allows everything: give it alone, or leave it out for a scope", code=REFUSED)
    for place in namespace or ():
        _check("--namespace", place, NAME, "NAMESPACE")
    for place in function or ():
        _check("--function", place, FULL_NAME, "NAMESPACE/NAME")
    wanted = {"name": name, "namespaces": namespace or None, "functions": function or None, "admin": admin}
    with connect(context) as client:
        made = client.create_key(wanted)
    if as_json:
        show_value(made, Form.JSON)
        return
    print(made["secret"])
    print(f"{made['id']} ({name}): keep the secret now, it is not shown again", file=sys.stderr)


def _check(option: str, given: str, pattern: re.Pattern[str], form: str) -> None:
    if not pattern.fullmatch(given):
        expected = f"{form} of lower-case letters, digits and hyphens, beginning and ending with a letter or digit"
        raise CommandError(f"{option} is {given!r}; expected {expected}", code=REFUSED)


@app.command("list")
def list_keys(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """List the keys, never their secrets."""
    with connect(context) as client:
        rows = client.rows("keys")
    show_rows(rows, COLUMNS, Form.JSON if as_json else Form.TABLE, empty="no keys")


@app.command()
def revoke(
    context: typer.Context,
    key: Annotated[str, typer.Argument(help="The key's id, as `pilotlight keys list` shows it.")],
) -> None:
    """Revoke a key at once. Its usage stays in the ledger."""
    with connect(context) as client:
        client.revoke_key(key)
    print(f"{key} revoked")
