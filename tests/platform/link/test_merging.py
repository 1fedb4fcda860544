"""Laws of adding up reports: what was told counts once, whatever the order in which it comes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pilotlight.activator.values import Demand, FunctionId, RevisionDemand
from pilotlight.platform.link.merging import Heard, Refusal, arrivals, at_least, follow, merged, total
from pilotlight.platform.link.wire import Report

FUNCTIONS = [FunctionId("team", name) for name in "abc"]

counts = st.integers(0, 1000)
demands = st.builds(
    Demand,
    counts,
    counts,
    counts,
    st.floats(0, 2e9),
    st.dictionaries(st.sampled_from(["r1", "r2", "r3"]), counts).map(lambda found: tuple(found.items())),
    st.dictionaries(st.sampled_from(["v1", "v2"]), st.tuples(counts, counts, st.floats(0, 2e9))).map(
        lambda found: tuple(RevisionDemand(name, *part) for name, part in found.items())
    ),
)
states = st.dictionaries(st.sampled_from(FUNCTIONS), demands)
Told = dict[FunctionId, Demand]


def heard(told: Told) -> Heard:
    found = follow(None, Report("a", 1.0, 1, 0.0, full=True, demands=told), 0.0, 0.0)
    assert isinstance(found, Heard)
    return found


def reports(history: Sequence[Told], started_at: float = 1.0) -> list[Report]:
    """What an activator with this history tells: all of it first, then only what changed."""
    told: list[Report] = []
    before: Told = {}
    for number, state in enumerate(history, 1):
        changed = {name: demand for name, demand in state.items() if number == 1 or before.get(name) != demand}
        gone = tuple(before.keys() - state.keys())
        told.append(Report("a", started_at, number, 0.0, full=number == 1, demands=changed, gone=gone))
        before = state
    return told


def receive(told: Sequence[Report]) -> Heard | None:
    known: Heard | None = None
    for report in told:
        found = follow(known, report, 0.0, 0.0)
        known = found if isinstance(found, Heard) else known
    return known


@given(st.lists(states, min_size=1, max_size=4))
def test_the_merged_demand_is_the_sum_over_activators(told: list[Told]) -> None:
    result = merged([heard(each) for each in told], FUNCTIONS)

    assert result.keys() == set().union(*told)
    for function, demand in result.items():
        parts = [each[function] for each in told if function in each]
        assert demand.queued == sum(part.queued for part in parts)
        assert demand.in_flight == sum(part.in_flight for part in parts)
        assert demand.arrived_total == sum(part.arrived_total for part in parts)
        assert demand.last_active == max(part.last_active for part in parts)
        by_replica = dict(demand.per_replica)
        assert sum(by_replica.values()) == sum(count for part in parts for _, count in part.per_replica)
        assert all(
            by_replica[name] == sum(dict(part.per_replica).get(name, 0) for part in parts) for name in by_replica
        )


@given(st.lists(demands, min_size=1, max_size=4))
def test_revisions_are_added_up_by_name(parts: list[Demand]) -> None:
    told = [part for demand in parts for part in demand.per_revision]
    added = {part.revision: part for part in total(parts).per_revision}

    assert added.keys() == {part.revision for part in told}
    for name, part in added.items():
        assert part.queued == sum(each.queued for each in told if each.revision == name)
        assert part.in_flight == sum(each.in_flight for each in told if each.revision == name)
        assert part.last_active == max(each.last_active for each in told if each.revision == name)


@given(st.lists(demands, min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_activators_does_not_matter(parts: list[Demand], random: Random) -> None:
    shuffled = list(parts)
    random.shuffle(shuffled)
    assert total(shuffled) == total(parts)


@given(st.lists(states, min_size=1, max_size=6))
def test_changes_build_up_to_the_newest_state(history: list[Told]) -> None:
    known = receive(reports(history))

    assert known is not None
    assert known.demands == history[-1]
    assert known.queued == {name: demand.queued for name, demand in history[-1].items() if demand.queued}


@given(st.lists(states, min_size=1, max_size=6), st.data())
def test_duplicates_and_late_reports_change_nothing(history: list[Told], data: st.DataObject) -> None:
    told = reports(history)
    noisy: list[Report] = []
    for index, report in enumerate(told):
        noisy += [report, *data.draw(st.lists(st.sampled_from(told[: index + 1]), max_size=3))]
    assert receive(noisy) == receive(told)
    assert {follow(receive(told), report, 0.0, 0.0) for report in told} == {Refusal.OLD}


@given(st.lists(states, min_size=2, max_size=6), st.data())
def test_after_a_lost_report_nothing_is_believed_until_all_is_told_again(
    history: list[Told], data: st.DataObject
) -> None:
    told = reports(history)
    missing = data.draw(st.integers(0, len(told) - 2))
    known = receive([report for index, report in enumerate(told) if index != missing])
    assert known == (receive(told[:missing]) if missing else None)
    again = replace(told[-1], sequence=len(told) + 1, full=True, demands=history[-1])
    assert follow(known, told[-1], 0.0, 0.0) is Refusal.BASELESS
    found = follow(known, again, 0.0, 0.0)
    assert isinstance(found, Heard)
    assert found.demands == history[-1]


@given(states, states)
def test_a_restart_replaces_what_was_and_its_forerunner_is_not_heard_again(before: Told, after: Told) -> None:
    old, new = reports([before], started_at=1.0)[0], reports([after], started_at=2.0)[0]
    known = receive([old, new, replace(old, sequence=99)])
    assert known is not None
    assert known.demands == after


@given(st.lists(st.lists(counts, min_size=1, max_size=5).map(sorted), min_size=1, max_size=4))
def test_arrivals_are_counted_once_over_restarts(lives: list[list[int]]) -> None:
    """Each life of an activator counts from zero; the total is what all of them counted."""
    function = FUNCTIONS[0]
    known: Heard | None = None
    counted = 0
    for start, life in enumerate(lives):
        for report in reports([{function: Demand(0, 0, count, 0.0)} for count in life], started_at=float(start)):
            counted += arrivals(known, report).get(function, 0)
            found = follow(known, report, 0.0, 0.0)
            assert isinstance(found, Heard)
            known = found
    assert counted == sum(life[-1] for life in lives)


def test_a_count_that_falls_within_one_life_has_begun_anew() -> None:
    """A function that was deleted and made again."""
    function = FUNCTIONS[0]
    first, then = reports([{function: Demand(0, 0, count, 0.0)} for count in (9, 2)])
    assert arrivals(receive([first]), then) == {function: 2}


@given(states)
def test_before_all_are_heard_only_requests_that_wait_for_a_start_are_certain(told: Told) -> None:
    assert at_least(told) == {
        function: demand for function, demand in told.items() if demand.queued > 0 and demand.in_flight == 0
    }


def test_causes_follow_the_functions_that_are_told_of() -> None:
    a, b, _ = FUNCTIONS
    waiting = Demand(1, 0, 1, 0.0)
    first = Report("x", 1.0, 1, 0.0, full=True, demands={a: waiting, b: waiting}, causes={a: "k1", b: "k2"})
    then = Report("x", 1.0, 2, 0.0, full=False, demands={a: Demand(0, 1, 1, 0.0)})
    known = receive([first, then])
    assert known is not None
    assert known.causes == {b: "k2"}
