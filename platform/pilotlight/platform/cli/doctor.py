"""`pilotlight doctor`: whether a cluster has what the platform needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pilotlight.platform.cli.errors import CommandError
from pilotlight.platform.cli.install import connected
from pilotlight.platform.cli.output import Form, safe, show_value, terminal

if TYPE_CHECKING:
    from pilotlight.platform.doctor.findings import Finding
    from pilotlight.platform.kubernetes.kinds import Object

COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


def doctor(
    cluster: Annotated[
        str, typer.Option("--context", help="Context of the kubeconfig.", show_default="the current one")
    ] = "",
    no_probe: Annotated[
        bool, typer.Option("--no-probe", help="Start no pod; S3 and database are not tried then.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The findings as JSON.")] = False,
) -> None:
    """Check a cluster and say what to do.

    Before the platform is installed, or after. Nothing is changed; a pod that tries S3 and database lives for some
    seconds. Exits with 1 when there is a problem.
    """
    from pilotlight.platform.doctor.checks import judge
    from pilotlight.platform.doctor.findings import Level
    from pilotlight.platform.doctor.gathering import Gatherer
    from pilotlight.platform.kubernetes.errors import KubernetesError

    api = connected(cluster)
    try:
        findings = judge(Gatherer(api, _objects()).facts(with_probe=not no_probe))
    except KubernetesError as error:
        raise CommandError(str(error)) from error
    finally:
        api.close()
    if as_json:
        show_value([_row(each) for each in findings], Form.JSON)
    else:
        _print(findings)
    if any(each.level is Level.PROBLEM for each in findings):
        raise typer.Exit(1)


def _objects() -> tuple[Object, ...]:
    """What an installation applies; nothing without kubectl: the checks that compare with it say so."""
    from pilotlight.platform.install.errors import InstallError
    from pilotlight.platform.install.rendering import manifests, render

    try:
        return render(manifests() / "overlays" / "production")
    except InstallError:
        return ()


def _row(finding: Finding) -> dict[str, str]:
    return {
        "check": finding.check,
        "level": finding.level.value,
        "found": finding.found,
        "expected": finding.expected,
        "next": finding.next,
    }


def _print(findings: tuple[Finding, ...]) -> None:
    from rich.text import Text

    console = terminal()
    for each in findings:
        line = Text.assemble(
            (f"{each.level.value:<8}", COLOURS[each.level.value]), f" {each.check}: {safe(each.found)}"
        )
        console.print(line, soft_wrap=True)
        if each.next:
            console.print(Text(f"         expected: {each.expected}"), soft_wrap=True)
            console.print(Text(f"         do: {safe(each.next)}"), soft_wrap=True)
