"""Every finished request is counted once, whatever runs, fails or is looked at twice."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pilotlight.activator.values import FunctionId
from pilotlight.platform.database.recommendations import Ended
from pilotlight.platform.recommending.counting import LONGEST_SECONDS, Counted, count
from pilotlight.recommender.sketches import RequestLengths, Served

CHAT, OTHER = FunctionId("team-a", "chat"), FunctionId("team-a", "other")
MADE = {CHAT: 0.0, OTHER: 0.0}
OUTCOMES = st.sampled_from(["ok", "ok", "running", "failed", "cancelled", "rejected", "unknown"])


def ended(at: float, outcome: str = "ok", function: FunctionId = CHAT) -> Ended:
    return Ended(function, at, 100, 20, outcome, 50)


def test_only_what_was_answered_whole_counts() -> None:
    rows = [
        ended(1.0),
        ended(2.0, "cancelled"),
        ended(3.0, "failed"),
        ended(4.0, function=OTHER),
        ended(5.0, "unknown"),
    ]
    counted = count(Counted(), rows, 100.0, MADE)
    once = RequestLengths().plus([Served(100, 20, 50)])

    assert counted.lengths == {CHAT: once, OTHER: once}
    assert counted.until == 5.0
    assert counted.changed == {CHAT, OTHER}
    assert count(counted, [], 101.0, MADE) == replace(counted, changed=frozenset())


def test_requests_of_a_function_that_had_the_name_before_are_passed_over() -> None:
    counted = count(Counted(), [ended(1.0), ended(2.0), ended(3.0, function=OTHER)], 100.0, {CHAT: 1.5})

    assert {name: round(lengths.total.count) for name, lengths in counted.lengths.items()} == {CHAT: 1}
    assert counted.until == 3.0


def test_what_still_runs_is_waited_for_but_not_for_ever() -> None:
    rows = [ended(1.0), ended(2.0, "running"), ended(3.0)]
    early = count(Counted(), rows, 10.0, MADE)
    late = count(Counted(), rows, 2.0 + LONGEST_SECONDS, MADE)

    assert (early.until, early.lengths[CHAT].total.count) == (1.0, 1)
    assert late.until == 3.0
    assert round(late.lengths[CHAT].total.count, 3) == 2


@given(st.lists(OUTCOMES, max_size=30), st.integers(1, 7))
def test_looks_at_parts_count_what_one_look_counts(outcomes: list[str], limit: int) -> None:
    """Whoever runs at first ends later, as `ok`."""
    final = [ended(at, "ok" if outcome == "running" else outcome) for at, outcome in enumerate(outcomes, 1)]
    first = [ended(at, outcome) for at, outcome in enumerate(outcomes, 1)]
    counted = Counted()
    for rows in (first, *[final] * 40):
        counted = count(counted, [row for row in rows if row.admitted_at > counted.until][:limit], 40.0, MADE)
    total = counted.lengths.get(CHAT, RequestLengths()).total.count

    assert counted.until == len(outcomes)
    assert round(total, 2) == sum(row.outcome == "ok" for row in final)
