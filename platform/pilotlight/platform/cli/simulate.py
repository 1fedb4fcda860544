"""`pilotlight simulate`: scaling policies on recorded or made-up arrivals, without a platform."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pilotlight.platform.cli.errors import REFUSED, CommandError
from pilotlight.platform.cli.output import Column, Form, show_rows, text
from pilotlight.platform.simulate.errors import SimulationRefused
from pilotlight.platform.simulate.formats import Format

if TYPE_CHECKING:
    from pilotlight.platform.simulate.scenario import Scenario
    from pilotlight.platform.simulate.sources import Source

USUAL = "pilotlight-no-vae,kpa,kpa-tuned,keepalive-5m,always-on"
COLUMNS: tuple[Column, ...] = (
    Column("POLICY", "policy", text),
    Column("IN SLO", "attained", text, right=True),
    Column("COLD PER 1000", "cold", text, right=True),
    Column("WAIT P99", "wait", text, right=True),
    Column("REPLICA HOURS", "hours", text, right=True),
    Column("SERVING", "serving", text, right=True),
    Column("STARTING", "starting", text, right=True),
    Column("IDLE", "idle", text, right=True),
)


def simulate(
    format_: Annotated[Format, typer.Option("--format", help="What the arrivals are, or how they are made up.")],
    arrivals: Annotated[Path | None, typer.Option(metavar="FILE", help="The trace.")] = None,
    policies: Annotated[str, typer.Option(metavar="A,B", help="Which to compare; docs/simulator.md has all.")] = USUAL,
    out: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write every figure there.")] = None,
    chart: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw them there, .svg or .png.")] = None,
    lengths: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Lengths of requests that do not say: Vidur's CSV, ServeGen's tar."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")] = 0,
    share: Annotated[float, typer.Option(help="Keep this share of the requests.")] = 1.0,
    begin: Annotated[str, typer.Option(help="Take the trace from there.")] = "0s",
    end: Annotated[str, typer.Option(help="... to there.", show_default="its end")] = "",
    below: Annotated[
        float | None, typer.Option(metavar="RATE", help="Only ServeGen's clients below this mean, requests/s.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Made up: requests/s of each function.")] = 0.1,
    functions: Annotated[int, typer.Option(help="Made up: how many functions.")] = 1,
    time: Annotated[str, typer.Option(help="Made up: how long.")] = "24h",
    slots: Annotated[int, typer.Option(help="Requests that a replica serves at once.")] = 32,
    most: Annotated[int, typer.Option("--max", help="Replicas of a function at most.")] = 8,
    fleet: Annotated[
        int | None, typer.Option(help="Replicas of all functions together.", show_default="any number")
    ] = None,
    start: Annotated[str, typer.Option(help="What a cold start takes.")] = "60s",
    ttft: Annotated[str, typer.Option(help="Interactive requests: first token within.")] = "2s",
    itl: Annotated[str, typer.Option(help="... and mean time between tokens within.")] = "100ms",
) -> None:
    """Replay arrivals against scaling policies, ours among them.

    Replicas answer as an 8-billion-parameter model on one H100 does by the recommender's roofline.
    """
    from pilotlight.platform.cli.units import parse_seconds
    from pilotlight.platform.simulate.scenario import USUAL_TARGETS, Scenario, Target, start_of
    from pilotlight.platform.simulate.sources import Source

    seconds = {name: parse_seconds(value, name) for name, value in (("--begin", begin), ("--time", time))}
    interactive = Target(parse_seconds(ttft, "--ttft"), parse_seconds(itl, "--itl"))
    phases = start_of(parse_seconds(start, "--start"))
    targets = {**USUAL_TARGETS, "interactive": interactive}
    try:
        source = Source(
            format_,
            arrivals,
            lengths,
            below=inf if below is None else below,
            rate=rate,
            functions=functions,
            seconds=seconds["--time"],
            share=share,
            begin=seconds["--begin"],
            end=parse_seconds(end, "--end") if end else inf,
            seed=seed,
        )
        scenario = Scenario(slots=slots, start=phases, most=most, fleet=fleet, targets=targets, seed=seed)
        _compare(source, scenario, policies.split(","), out, chart)
    except SimulationRefused as error:
        raise CommandError(str(error), code=REFUSED) from error


def _compare(source: Source, scenario: Scenario, names: list[str], out: Path | None, chart: Path | None) -> None:
    from pilotlight.platform.simulate.chart import check, draw
    from pilotlight.platform.simulate.policies.catalogue import find
    from pilotlight.platform.simulate.policies.values import Setting
    from pilotlight.platform.simulate.report import report
    from pilotlight.platform.simulate.simulation import simulate as simulated
    from pilotlight.platform.simulate.sources import open_source

    chosen = find([name.strip() for name in names])
    if chart is not None:
        check(chart)
    requests = open_source(source)
    outcomes = {policy.name: simulated(requests, policy, Setting(scenario)) for policy in chosen}
    found = report(outcomes, scenario)
    file = None
    try:
        if out is not None:
            file = out
            out.write_text(json.dumps(found, indent=2) + "\n")
        if chart is not None:
            file = chart
            draw(outcomes, chart)
    except OSError as error:
        raise CommandError(f"cannot write {file}: {error.strerror}") from error
    print(f"{found['requests']:,} requests")
    show_rows([_row(name, each) for name, each in found["policies"].items()], COLUMNS, Form.TABLE, empty="")


def _row(name: str, found: Mapping[str, Any]) -> dict[str, str]:
    parts = {part: f"{found[f'{part}_seconds'] / 3600:,.1f}" for part in ("serving", "starting", "idle")}
    return {
        "policy": name,
        "attained": f"{found['slo_attainment']:.2%}",
        "cold": f"{found['cold_per_1000']:.2f}",
        "wait": f"{found['wait_p99_s']:.1f} s",
        "hours": f"{found['replica_seconds'] / 3600:,.1f}",
        **parts,
    }
