"""What the demo prints."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, RenderableType

from pilotlight.platform.cli.calling import Record
from pilotlight.platform.cli.waiting import Span
from pilotlight.platform.demo import pages
from pilotlight.platform.demo.cost import GIB, Bill, Footprint, Prices


def rendered(what: RenderableType) -> list[str]:
    console = Console(file=io.StringIO(), width=100, highlight=False)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_phases_are_shown_with_their_share_and_their_sum() -> None:
    lines = rendered(pages.phase_table([Span("fetching weights", 0.5, 1.5), Span("loading weights", 1.5, 4.5, 100)]))

    assert lines[1] == "  fetching weights     1.00  " + "█" * 10
    assert lines[2] == "  loading weights      3.00  " + "█" * 30
    assert lines[3] == "  together             4.00"


def test_a_phase_that_took_no_time_still_has_a_mark() -> None:
    assert rendered(pages.phase_table([Span("scheduling", 1.0, 1.0)]))[1].endswith("█")


def test_a_replicas_phases_begin_at_zero_and_end_when_it_is_ready() -> None:
    phases = [
        {"name": "schedule", "start": 1000.0, "end": 1000.2, "progress": 1.0},
        {"name": "import", "start": 1000.2, "end": 1009.2, "progress": 1.0},
        {"name": "ready", "start": 1009.2, "end": 1009.2, "progress": 1.0},
    ]

    spans = pages.start_phases({"phases": phases})

    assert [span.phase for span in spans] == ["schedule", "import"]
    assert [span.end - span.begin for span in spans] == pytest.approx([0.2, 9.0])
    assert spans[0].begin == 0.0


def test_both_latencies_stand_beside_each_other() -> None:
    cold = Record(meta={"start": "cold", "start_ms": 14200}, ttft_seconds=14.6, seconds=15.0)
    warm = Record(headers={"x-pilotlight-start": "warm"}, ttft_seconds=0.21, seconds=0.5)
    cold.usage = warm.usage = {"completion_tokens": 8}

    lines = rendered(pages.latency_table([("from zero", cold), ("warm", warm)]))

    assert lines[1].split() == ["from", "zero", "14.2", "s", "14.6", "s", "15.0", "s", "8"]
    assert lines[2].split() == ["warm", "0", "ms", "210", "ms", "500", "ms", "8"]


def test_the_bill_shows_what_was_paid_what_always_on_costs_and_the_prices_it_assumes() -> None:
    paid = Bill({"starting": 0.0, "serving": 36.0, "idle": 0.0}, wall_seconds=72.0)

    lines = rendered(pages.cost_table(paid, Footprint(cpus=1.0, memory_bytes=2 * GIB), Prices(0.04, 0.005)))

    cells = {line.strip().rpartition("  ")[0].split("  ")[0]: line.split()[-1] for line in lines if "$" in line}
    assert cells["billed"] == "$0.000500"
    assert cells["always on, same time"] == "$0.001000"
    assert cells["always on, a day"] == "$1.20"
    assert cells["always on, a month"] == "$36.00"
    assert any("Example prices: $0.04 per CPU-hour, $0.005 per GiB-hour" in line for line in lines)


@pytest.mark.parametrize(("amount", "shown"), [(0.0, "$0.000000"), (0.0012345, "$0.001234"), (36.0, "$36.00")])
def test_dollars(amount: float, shown: str) -> None:
    assert pages.dollars(amount) == shown
