"""`pilotlight detector`: how well trouble is told from load; needs no platform."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from pilotlight.platform.cli.errors import REFUSED, CommandError
from pilotlight.platform.cli.output import Column, Form, show_rows, text

app = typer.Typer(help="Judge the detector on labelled metrics.", no_args_is_help=True, rich_markup_mode=None)


def _figure(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else text(value)


COLUMNS: tuple[Column, ...] = (
    Column("METHOD", "method", text),
    Column("RECALL", "event_recall", _figure, right=True),
    Column("+-", "event_recall_std", _figure, right=True),
    Column("FALSE/DAY", "false_alarms_per_day", _figure, right=True),
    Column("DELAY", "delay_windows", text, right=True),
    Column("VUS-PR", "vus_pr", _figure, right=True),
    Column("AUC-PR", "auc_pr", _figure, right=True),
)


@app.callback()
def detector() -> None:
    """Judge the detector on labelled metrics."""


@app.command()
def evaluate(
    data: Annotated[Path, typer.Option(help="Folder of .npz files with train, test and test_label, one per entity.")],
    out: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write every figure there.")] = None,
    minutes_per_row: Annotated[float, typer.Option(min=0.01, max=60, help="Sampling of the rows.")] = 1.0,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Runs of each method, whose mean is shown.")] = 5,
) -> None:
    """Compare the detector with other methods on labelled metrics, thresholds from normal rows alone.

    RECALL is the share of events with an alarm in them, at no more than one false alarm per entity and day.
    """
    try:
        from pilotlight.detector.evaluation.protocol import evaluate as evaluated
    except ModuleNotFoundError as error:
        raise CommandError(f"{error.name} is not installed; install pilotlight[detector]") from error
    from pilotlight.detector.evaluation.series import SeriesRefused, read_folder

    if out is not None and not out.parent.is_dir():  # said before minutes of work
        raise CommandError(f"cannot write {out}: there is no folder {out.parent}")
    try:
        report = evaluated(read_folder(data), minutes_per_row, seeds, told=_told)
    except SeriesRefused as error:
        raise CommandError(str(error), code=REFUSED) from error
    if out is not None:
        _write(report, out)
    rows = [{"method": name, **figures} for name, figures in report["methods"].items()]
    show_rows(rows, COLUMNS, Form.TABLE, empty="")


def _told(part: str) -> None:
    print(f"{part}: done", file=sys.stderr)


def _write(report: Mapping[str, Any], file: Path) -> None:
    try:
        file.write_text(json.dumps(report, indent=2) + "\n")
    except OSError as error:
        raise CommandError(f"cannot write {file}: {error.strerror}") from error
