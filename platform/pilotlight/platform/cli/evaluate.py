"""`pilotlight recommend evaluate`: how good the performance model is, on any file of public measurements."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pilotlight.platform.cli.errors import REFUSED, CommandError
from pilotlight.platform.cli.output import Column, Form, show_rows, text

if TYPE_CHECKING:
    from pilotlight.recommender.accelerators import Catalogue

COLUMNS: tuple[Column, ...] = (
    Column("FIGURE", "figure", text),
    Column("MEDIAN", "median", text, right=True),
    Column("MEAN", "mean", text, right=True),
    Column("COVERED", "covered", text, right=True),
    Column("COUNT", "count", text, right=True),
)
_SHOWN = {
    "ITL": ("itl",),
    "ITL, interior": ("itl", "interior"),
    "ITL, end points": ("itl", "ends"),
    "ITL, no prior": ("without_prior",),
    "ITL, straight line": ("linear_baseline", "itl"),
    "ITL, from one point": ("one_point",),
    "ITL, nothing measured": ("zero_shot", "itl"),
    "TTFT": ("ttft",),
    "TTFT, straight line": ("linear_baseline", "ttft"),
    "TTFT, nothing measured": ("zero_shot", "ttft"),
}


def evaluate(
    data: Annotated[Path, typer.Option(help="CSV of measurements, one row per setting and batch size.")],
    out: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write every figure there.")] = None,
    accelerators: Annotated[
        list[Path] | None, typer.Option(help="File of accelerators beside the built-in ones; may be repeated.")
    ] = None,
) -> None:
    """Measure the performance model on public measurements: leave-one-out, from one point, ranking.

    Errors are fractions of what was measured; COVERED is the share inside the 95 % intervals.
    """
    from pilotlight.recommender import RecommenderError
    from pilotlight.recommender.accelerators import read_catalogue
    from pilotlight.recommender.evaluation import evaluate as evaluated
    from pilotlight.recommender.measurements import read_measurements

    try:
        catalogue: Catalogue = read_catalogue(accelerators or ())
        report = evaluated(read_measurements(data), catalogue)
    except RecommenderError as error:
        raise CommandError(str(error), code=REFUSED) from error
    if out is not None:
        _write(json.dumps(report, indent=2) + "\n", out)
    show_rows([_row(name, report, path) for name, path in _SHOWN.items()], COLUMNS, Form.TABLE, empty="")
    print(_ranking(report))


def _write(content: str, file: Path) -> None:
    try:
        file.write_text(content)
    except OSError as error:
        raise CommandError(f"cannot write {file}: {error.strerror}") from error


def _row(name: str, report: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, str]:
    figures: Mapping[str, Any] = report
    for key in path:
        figures = figures[key]
    return {
        "figure": name,
        "median": _share(figures["median_error"]),
        "mean": _share(figures["mean_error"]),
        "covered": _share(figures.get("coverage95")),
        "count": str(figures["count"]),
    }


def _ranking(report: Mapping[str, Any]) -> str:
    correlation = report["rank"]["spearman_median"]
    told = "unknown" if correlation is None else f"{correlation:.3f}"
    return f"rank correlation of throughput per accelerator, nothing measured: {told} (median over the accelerators)"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
