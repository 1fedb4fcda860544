"""What the demo shows, as renderables: sober enough for a README, plain enough for a log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from pilotlight.platform.cli.calling import Record
from pilotlight.platform.cli.output import number, seconds, size
from pilotlight.platform.cli.waiting import Span
from pilotlight.platform.demo.cost import DAY_SECONDS, GIB, MONTH_SECONDS, Bill, Footprint, Prices
from pilotlight.runtime.models import ModelManifest

BAR_COLUMNS = 40
INDENT = 2
REQUEST_LETTERS = 12
"""Enough to tell a demo's requests apart."""


def heading(console: Console, number_: int, title: str, note: str = "") -> None:
    line = Text.assemble((f"{number_} ", "bold cyan"), (title, "bold"))
    if note:
        line.append(f"  {note}", style="dim")
    console.print()
    console.print(line)


def say(console: Console, sentence: str, style: str = "", indent: int = INDENT) -> None:
    console.print(_indented(Text(sentence, style=style), indent))


def manifest(console: Console, source: str) -> None:
    console.print(_indented(Syntax(source.rstrip(), "yaml", theme="ansi_dark", background_color="default")))


def phase_table(phases: Sequence[Span]) -> Padding:
    """One row a phase with its share of the whole as a bar."""
    whole = sum(phase.end - phase.begin for phase in phases) or 1.0
    table = _table("phase", ">seconds", "")
    for phase in phases:
        length = phase.end - phase.begin
        bar = Text("█" * max(1, round(BAR_COLUMNS * length / whole)), style="cyan")
        table.add_row(phase.phase, f"{length:.2f}", bar)
    table.add_row("together", f"{whole:.2f}", "", style="bold")
    return _indented(table)


def start_phases(replica: Mapping[str, Any]) -> list[Span]:
    """A replica's own account of its start: seconds since it was decided on; `ready` is the end, no phase."""
    phases = [phase for phase in replica["phases"] if phase["name"] != "ready" and phase["end"] is not None]
    begin = phases[0]["start"] if phases else 0.0
    return [Span(phase["name"], phase["start"] - begin, phase["end"] - begin) for phase in phases]


def latency_table(calls: Sequence[tuple[str, Record]]) -> Padding:
    table = _table("call", ">waited for start", ">first token", ">whole answer", ">tokens")
    for name, record in calls:
        tokens = number(record.usage.get("completion_tokens"))
        table.add_row(
            name, seconds(record.start_seconds), seconds(record.ttft_seconds), seconds(record.seconds), tokens
        )
    return _indented(table)


def ledger_table(rows: Sequence[Mapping[str, Any]]) -> Padding:
    table = _table("request", "outcome", "cold", ">prompt", ">answer", ">queue", ">start", ">serve")
    for row in rows:
        table.add_row(
            str(row["request"])[:REQUEST_LETTERS],
            str(row["outcome"]),
            "yes" if row["cold"] else "no",
            number(row["prompt_tokens"]),
            number(row["completion_tokens"]),
            seconds(row["queue_seconds"]),
            seconds(row["start_seconds"]),
            seconds(row["serve_seconds"]),
        )
    return _indented(table)


def cost_table(paid: Bill, footprint: Footprint, prices: Prices) -> Group:
    """Seconds and dollars of this demo by state, beside the same replica always on."""
    table = _table("", ">seconds", ">example cost")
    for state, length in paid.seconds.items():
        table.add_row(state, f"{length:.1f}", dollars(footprint.dollars(length, prices)))
    table.add_row(
        "billed", f"{paid.billed_seconds:.1f}", dollars(footprint.dollars(paid.billed_seconds, prices)), style="bold"
    )
    table.add_section()
    for name, length in (
        ("always on, same time", paid.wall_seconds),
        ("the same once an hour, a day", 24 * paid.billed_seconds),
        ("always on, a day", DAY_SECONDS),
        ("always on, a month", MONTH_SECONDS),
    ):
        table.add_row(name, f"{length:,.1f}", dollars(footprint.dollars(length, prices)))
    return Group(_indented(table), _indented(Text(assumptions(footprint, prices), style="dim")))


def assumptions(footprint: Footprint, prices: Prices) -> str:
    return (
        f"Example prices: ${prices.cpu_hour:g} per CPU-hour, ${prices.gib_hour:g} per GiB-hour; a replica holds "
        f"{footprint.cpus:g} CPU and {footprint.memory_bytes / GIB:.1f} GiB. Put your own prices in."
    )


def dollars(amount: float) -> str:
    return f"${amount:.6f}" if amount < 0.01 else f"${amount:,.2f}"


def model(name: str, manifest: ModelManifest) -> str:
    return f"{name} is {manifest.digest[:19]}..., {len(manifest.files)} files, {size(manifest.size)}"


def _indented(what: RenderableType, columns: int = INDENT) -> Padding:
    return Padding(what, (0, 0, 0, columns), expand=False)


def _table(*titles: str) -> Table:
    """Titles that begin with `>` are of columns with numbers."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for title in titles:
        table.add_column(title.removeprefix(">"), justify="right" if title.startswith(">") else "left", no_wrap=True)
    return table
