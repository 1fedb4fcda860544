"""`pilotlight models`: the registry. Push and pull run the registry's own code against the platform's store."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pilotlight.platform.cli.errors import CommandError
from pilotlight.platform.cli.output import Column, Form, age, digest, show_rows, show_value, size, text
from pilotlight.platform.cli.target import connect, settings

if TYPE_CHECKING:
    from pilotlight.platform.registry.refs import ModelRef
    from pilotlight.platform.registry.registry import Registry
    from pilotlight.platform.registry.remote import RemoteStore

app = typer.Typer(
    help="Push, pull, list, tag, verify, import and collect models.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

LOCAL_BUCKET = "models"
"""The one that every platform has."""

Ref = Annotated[str, typer.Argument(metavar="REF", help="s3://BUCKET/[NAMESPACE/]NAME:TAG, or ...@sha256:HEX.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Take a model that brings Python code for the engine to run.")
]
Direct = Annotated[
    bool,
    typer.Option(
        "--direct", help="Past the platform, at the bucket itself: with AWS_ENDPOINT_URL_S3 and credentials of yours."
    ),
]

COLUMNS: tuple[Column, ...] = (
    Column("MODEL", "reference", text),
    Column("DIGEST", "digest", digest),
    Column("AGE", "modified", age, right=True),
)


@app.command()
def push(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with config.json and safetensors.")],
    ref: Ref,
    trust_remote_code: TrustRemoteCode = False,
    direct: Direct = False,
    as_json: AsJson = False,
) -> None:
    """Push a folder. Only what the registry lacks is sent; after an interruption it goes on where it was."""
    from pilotlight.platform.cli.transfers import parse_ref, watched

    wanted = parse_ref(ref)
    with watched(shown=not as_json) as report:
        place = registry(context, wanted, direct=direct)
        manifest = place.push(folder, wanted, report, trust_remote_code=trust_remote_code)
    tell(wanted, manifest.digest, manifest.size, as_json=as_json)


@app.command()
def pull(
    context: typer.Context,
    ref: Ref,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; files that are right already are kept.")],
    direct: Direct = False,
    as_json: AsJson = False,
) -> None:
    """Fetch a model into a folder, every byte checked."""
    from pilotlight.platform.cli.transfers import parse_ref, watched

    wanted = parse_ref(ref)
    with watched(shown=not as_json) as report:
        found = registry(context, wanted, direct=direct).pull(wanted, folder, report)
    tell(wanted, found.digest, found.manifest.size, as_json=as_json)


@app.command("list")
def list_models(context: typer.Context, as_json: AsJson = False) -> None:
    """List every tag that your key may read."""
    with connect(context) as client:
        rows = client.rows("models")
    show_rows(rows, COLUMNS, Form.JSON if as_json else Form.TABLE, empty="no models; `pilotlight models push` adds one")


@app.command()
def tag(
    context: typer.Context,
    ref: Ref,
    new_tag: Annotated[str, typer.Argument(metavar="NEWTAG", help="Another tag of the same repository.")],
    as_json: AsJson = False,
) -> None:
    """Let a tag point at what REF points at now."""
    from pilotlight.platform.cli.transfers import parse_ref, translated
    from pilotlight.platform.registry.refs import ModelRef

    wanted = parse_ref(ref)
    with translated():
        found = registry(context, wanted).tag(wanted, new_tag)
        made = ModelRef(wanted.bucket, wanted.repository, tag=new_tag)
    tell(made, found.digest, found.manifest.size, as_json=as_json)


@app.command()
def verify(
    context: typer.Context,
    ref: Ref,
    repair: Annotated[
        bool, typer.Option("--repair", help="Remove corrupt files, so that a push sends them anew.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Read every byte of a model again and compare it with its digest."""
    from pilotlight.platform.cli.transfers import parse_ref, watched

    wanted = parse_ref(ref)
    with watched(shown=not as_json) as report:
        found = registry(context, wanted).verify(wanted, report, repair=repair)
    if as_json:
        facts = {"digest": found.digest, "files": found.files, "size": found.bytes, "problems": list(found.problems)}
        show_value(facts, Form.JSON)
    if found.problems:
        advice = "push it again" if repair else "give --repair, then push it again"
        raise CommandError(f"{wanted} is damaged; {advice}", details=found.problems)
    if not as_json:
        print(f"{wanted} is right: {found.files} files, {size(found.bytes)}, {found.digest}")


@app.command()
def gc(
    context: typer.Context,
    bucket: Annotated[str, typer.Option(help="Which bucket.")] = LOCAL_BUCKET,
    grace: Annotated[str, typer.Option(help="Keep what is younger, as 90m or 24h.")] = "24h",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove files that no tag and no function needs, and what pushes left unfinished."""
    from pilotlight.platform.cli.transfers import translated
    from pilotlight.platform.cli.units import parse_seconds

    with translated():
        taken = store(context, bucket).collect(parse_seconds(grace, "--grace"), dry_run=dry_run)
    if as_json:
        show_value(asdict(taken), Form.JSON)
    else:
        files, uploads = f"{taken.blobs} files ({size(taken.blob_bytes)})", f"{taken.uploads} unfinished uploads"
        print(f"{'would remove' if dry_run else 'removed'} {files}, {taken.manifests} manifests and {uploads}")
    if not taken.complete:
        raise CommandError("the collection ran out of its time; run it again to go on")


@app.command()
def token(
    context: typer.Context,
    ref: Ref,
    valid: Annotated[str, typer.Option(help="How long it holds, as 30m; at most 24h.")] = "1h",
    as_json: AsJson = False,
) -> None:
    """Make an upload token: a PILOTLIGHT_KEY that pushes to REF's repository, and does nothing else.

    It is printed alone on stdout and kept nowhere. It ends when the platform or the key that made it does.
    """
    from pilotlight.platform.cli.transfers import parse_ref, translated
    from pilotlight.platform.cli.units import parse_seconds

    wanted = parse_ref(ref)
    with translated():
        made = store(context, wanted.bucket, wanted.repository).token(parse_seconds(valid, "--valid"))
    if as_json:
        show_value(asdict(made), Form.JSON)
    else:
        print(made.token)


@app.command("import")
def import_model(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="hf://ORG/NAME[@REVISION], or a local folder.")],
    ref: Ref,
    trust_remote_code: TrustRemoteCode = False,
    direct: Direct = False,
    as_json: AsJson = False,
) -> None:
    """Bring a model from a Hugging Face hub or folder into the registry.

    The hub's own settings count: HF_TOKEN, HF_ENDPOINT, HTTPS_PROXY.
    """
    from pilotlight.platform.cli.transfers import opened, parse_ref, watched

    wanted = parse_ref(ref)
    with opened(source, trust_remote_code=trust_remote_code) as found, watched(shown=not as_json) as report:
        manifest = registry(context, wanted, direct=direct).push_inspected(found, wanted, report)
    tell(wanted, manifest.digest, manifest.size, as_json=as_json)


def registry(context: typer.Context, ref: ModelRef, *, direct: bool = False) -> Registry:
    """The registry of a reference's bucket: through the platform, or `direct` at the bucket. Raises StoreError."""
    from pilotlight.platform.registry.registry import Registry
    from pilotlight.runtime.stores import open_store

    if direct:
        return Registry(open_store(f"s3://{ref.bucket}"), ref.bucket)
    return Registry(store(context, ref.bucket, ref.repository), ref.bucket)


def store(context: typer.Context, bucket: str, repository: str = "") -> RemoteStore:
    from pilotlight.platform.registry.remote import RemoteStore

    target = settings(context)
    return RemoteStore(target.url, target.key, bucket, repository, notice=note)


def note(sentence: str) -> None:
    """Beside the result, which is alone on stdout."""
    print(f"note: {sentence}", file=sys.stderr)


def tell(ref: ModelRef, model: str, bytes_: int, *, as_json: bool) -> None:
    if as_json:
        show_value({"reference": str(ref), "digest": model, "size": bytes_}, Form.JSON)
    else:
        print(f"{ref}  {model}  {size(bytes_)}")
