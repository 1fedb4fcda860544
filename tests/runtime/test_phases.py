"""The phases of a start: in order, without gaps, and never going back."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pilotlight.runtime.phases import ORDER, PhaseLog
from pilotlight.runtime.spec import Phase


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@given(st.lists(st.sampled_from(Phase) | st.floats(-1, 2)))
def test_whatever_the_log_says_phases_are_in_order_without_gaps_and_progress_stays_in_bounds(
    events: list[Phase | float],
) -> None:
    phases = PhaseLog(_Clock(), 50.0)
    for event in events:
        if isinstance(event, Phase):
            phases.begin(event)
        else:
            phases.progress(event)
    reports = phases.reports
    assert [report.name for report in reports] == list(ORDER[: len(reports)])
    assert all(before.end == after.start for before, after in pairwise(reports))
    assert all(report.progress is None or 0 <= report.progress <= 1 for report in reports)
    assert reports[0].start == 50.0


def test_a_late_line_of_an_earlier_phase_changes_nothing() -> None:
    phases = PhaseLog(_Clock(), 0.0)
    phases.begin(Phase.WARMUP)
    before = phases.reports
    assert not phases.begin(Phase.LOAD)
    assert phases.reports == before


def test_a_failed_start_ends_its_phase_where_it_stood() -> None:
    phases = PhaseLog(_Clock(), 0.0)
    phases.begin(Phase.FETCH)
    phases.progress(0.4)
    phases.close()
    assert phases.reports[-1].progress == 0.4
    assert phases.reports[-1].end is not None
