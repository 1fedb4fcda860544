"""A comparison as a picture: what each policy gives, and what it costs. Needs matplotlib (extra `charts`)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from pilotlight.platform.simulate.errors import SimulationRefused
from pilotlight.platform.simulate.measuring import Outcome

SUFFIXES = (".svg", ".png")
# Okabe and Ito's colours, which colour-blind people can tell apart.
_PARTS = {"serving": "#009E73", "starting": "#E69F00", "idle": "#999999"}


def check(file: Path) -> None:
    """Whether a chart can be drawn there, before anything is simulated. Raises SimulationRefused."""
    if file.suffix not in SUFFIXES:
        raise SimulationRefused(f"a chart is {' or '.join(SUFFIXES)}, not {file.name}")
    if find_spec("matplotlib") is None:
        raise SimulationRefused("charts need matplotlib: install pilotlight[charts]")


def draw(outcomes: Mapping[str, Outcome], file: Path) -> None:
    """Attainment by cost, and what the cost is made of; the same bytes for the same figures.

    Raises:
        OSError: The file cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 0.35 * len(outcomes) + 1.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names = list(outcomes)
    bars = left.barh(names, [100 * outcome.slo_attainment for outcome in outcomes.values()], color="#0072B2")
    left.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    left.set(xlabel="requests within their SLO (%)", xlim=(0, 115))
    begun = [0.0] * len(outcomes)
    for part, colour in _PARTS.items():
        widths = [getattr(outcome, f"{part}_seconds") / 3600 for outcome in outcomes.values()]
        right.barh(names, widths, left=begun, color=colour, label=part)
        begun = [start + width for start, width in zip(begun, widths, strict=True)]
    right.invert_yaxis()
    right.set(xlabel="replica hours")
    figure.legend(loc="outside lower right", ncols=len(_PARTS))
    # Without a date, and with ids from a fixed salt, a chart differs only where its figures do.
    with rc_context({"svg.hashsalt": "pilotlight"}):
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None, dpi=120)
