"""The replays as a picture: what each policy gives at what cost, over its knob. Needs matplotlib (extra `charts`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

# Okabe and Ito's colours, which colour-blind people can tell apart; and grey.
_COLOURS = ("#0072B2", "#E69F00", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#999999", "#000000")
_FIGURES = (("slo_attainment", 100.0, "requests within their SLO (%)"), ("cold_per_1000", 1.0, "cold starts per 1,000"))
_LABELS = {"keepalive-5m": "fixed keep-alive"}
"""It is swept over all of them."""

Rows = Sequence[Mapping[str, Any]]
"""One replay's, one for each policy and knob, as `--json` has them."""


def draw(replays: Mapping[str, Rows], file: Path) -> None:
    """Two rows of panels, a column per replay; the same bytes for the same figures.

    Raises:
        OSError: The file cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # Text stays text, ids come from a fixed salt and no date is noted: small, and a change is one of figures.
    with rc_context({"svg.hashsalt": "pilotlight", "svg.fonttype": "none"}):
        figure = Figure(figsize=(4 * len(replays) + 0.5, 7), layout="constrained")
        panels = figure.subplots(2, len(replays), sharex="col", squeeze=False)
        for column, (name, rows) in enumerate(replays.items()):
            panels[0, column].set_title(f"{name}, {rows[0]['requests']:,} requests")
            panels[1, column].set_xlabel("replica hours")
            for panel, (key, unit, label) in zip(panels[:, column], _FIGURES, strict=True):
                _lines(panel, rows, key, unit)
                panel.set_ylabel(label if column == 0 else "")
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=8)
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None, dpi=120)


def _lines(panel: Any, rows: Rows, key: str, unit: float) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    policies = list(dict.fromkeys(row["policy"] for row in rows))
    for policy, colour in zip(policies, cycle(_COLOURS)):
        swept = [row for row in rows if row["policy"] == policy]
        hours = [row["replica_seconds"] / 3600 for row in swept]
        values = [unit * row[key] for row in swept]
        panel.plot(hours, values, marker="o", markersize=3, color=colour, label=_LABELS.get(policy, policy))
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter("{x:g}")
    panel.grid(alpha=0.3)
