"""`pilotlight install`: the platform into a Kubernetes cluster."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from pilotlight.platform.cli.errors import REFUSED, CommandError
from pilotlight.platform.cli.output import Form, show_value, terminal

if TYPE_CHECKING:
    from pilotlight.platform.install.installer import Applied, Installer
    from pilotlight.platform.install.rollout import Rollout
    from pilotlight.platform.kubernetes.api import Api
    from pilotlight.platform.kubernetes.kinds import Object

LINE = 200
"""Characters of a line of progress; an error at the end has all of it."""
PORT_FORWARD = "kubectl -n pilotlight-system port-forward service/pilotlight-activator 8080:80"
READ_KEY = "kubectl -n pilotlight-system get secret pilotlight-admin -o jsonpath={.data.key} | base64 -d"


def install(
    cluster: Annotated[
        str, typer.Option("--context", help="Context of the kubeconfig.", show_default="the current one")
    ] = "",
    overlay: Annotated[
        str,
        typer.Option(
            help="dev (MinIO and PostgreSQL in the cluster), production, or a folder with kustomization.yaml."
        ),
    ] = "production",
    image: Annotated[
        list[str] | None,
        typer.Option(help="NAME=IMAGE in place of the overlay's; NAME is control, runtime, minio or postgres."),
    ] = None,
    timeout: Annotated[str, typer.Option(help="How long to wait until everything is available.")] = "5m",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Let the API server check it; change nothing.")] = False,
    show_key: Annotated[bool, typer.Option("--show-key", help="Print the admin key.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object at the end, on stdout.")] = False,
) -> None:
    """Install the platform into a cluster, or bring it up to date.

    The cluster is Kubernetes with Knative Serving, and kubectl is needed. Secrets that are missing are made where they
    can be; what is there is never changed.
    """
    from pilotlight.platform.cli.units import parse_seconds
    from pilotlight.platform.install.errors import InstallError
    from pilotlight.platform.install.installer import Installer
    from pilotlight.platform.kubernetes.errors import KubernetesError

    seconds = parse_seconds(timeout, "--timeout")
    try:
        objects = _objects(overlay, image or ())
        api = connected(cluster)
        try:
            report = _install(Installer(api, objects, dry_run), seconds, dry_run=dry_run, quiet=as_json)
            if show_key and not dry_run:
                report["key"] = Installer(api, objects).admin_key()
        finally:
            api.close()
    except InstallError as error:
        raise CommandError(str(error), details=error.details) from error
    except KubernetesError as error:
        raise CommandError(str(error)) from error
    if as_json:
        show_value(report, Form.JSON)
    elif not dry_run:
        _explain(str(report["url"]), str(report.get("key", "")))


def connected(context: str) -> Api:
    """Raises CommandError when there is no such cluster."""
    from pilotlight.platform.kubernetes.api import Api
    from pilotlight.platform.kubernetes.errors import UnreachableError

    try:
        return Api.connect(context or None)
    except UnreachableError as error:
        raise CommandError(
            f"no cluster is configured ({error.message}); set KUBECONFIG, or name a context with --context",
            code=REFUSED,
        ) from error


def _objects(overlay: str, images: list[str] | tuple[str, ...]) -> tuple[Object, ...]:
    from pathlib import Path

    from pilotlight.platform.install.rendering import IMAGES, manifests, overlays, render, with_images

    chosen: dict[str, str] = {}
    for given in images:
        name, _, reference = given.partition("=")
        if name not in IMAGES or not reference:
            raise CommandError(f"--image {given}: expected NAME=IMAGE with NAME of {', '.join(IMAGES)}", code=REFUSED)
        chosen[name] = reference
    folder = manifests() / "overlays" / overlay if overlay in overlays() else Path(overlay)
    if not (folder / "kustomization.yaml").is_file():
        raise CommandError(
            f"--overlay {overlay}: expected {' or '.join(overlays())}, or a folder with kustomization.yaml",
            code=REFUSED,
        )
    return with_images(render(folder), chosen)


def _install(installer: Installer, seconds: float, *, dry_run: bool, quiet: bool) -> dict[str, object]:
    console = terminal(stderr=True)
    applied: list[Applied] = []
    for each in installer.apply(installer.secrets()):
        applied.append(each)
        if not quiet:
            console.out(f"{each.outcome:<10} {each.kind} {'/'.join(filter(None, (each.namespace, each.name)))}")
    report: dict[str, object] = {
        "objects": [{"kind": e.kind, "namespace": e.namespace, "name": e.name, "outcome": e.outcome} for e in applied]
    }
    if dry_run:
        return report

    def told(seen: Rollout) -> None:
        if not quiet:
            console.out(f"{'ready' if seen.done else 'waiting':<10} {seen}"[:LINE])

    with console.status("waiting for the Deployments") if console.is_terminal and not quiet else nullcontext():
        reached = installer.wait(seconds, told)
    report["deployments"] = [{"name": seen.name, "available": seen.available} for seen in reached]
    report["url"] = installer.url()
    return report


def _explain(url: str, key: str) -> None:
    if url:
        print(f"the platform is on {url}")
    else:
        print("the platform is in the cluster on http://pilotlight-activator.pilotlight-system.svc; from here:")
        print(f"  {PORT_FORWARD}")
        print("  export PILOTLIGHT_URL=http://127.0.0.1:8080")
    if key:
        print(f"admin key: {key}")
        print("keep it safe: it may change everything", file=sys.stderr)
    else:
        print(f"  export PILOTLIGHT_KEY=$({READ_KEY})")
