"""What the leader makes of what it hears, and of what it does not hear."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilotlight.activator.values import Demand, FunctionId
from pilotlight.platform.link.hub import Hub

if TYPE_CHECKING:
    from tests.platform.link.conftest import FakeClock, MakeReport

CHAT = FunctionId("team-a", "chat")
OTHER = FunctionId("team-a", "other")
IDLE = Demand(0, 0, 5, 10.0)
WAITING = Demand(3, 0, 5, 10.0)
BUSY = Demand(1, 4, 9, 20.0, (("pod-1", 4),))


class Expected:
    def __init__(self) -> None:
        self.count = 1

    def __call__(self) -> int:
        return self.count


@pytest.fixture
def expected() -> Expected:
    return Expected()


@pytest.fixture
def hub(clock: FakeClock, expected: Expected) -> Hub:
    return Hub("operator-1", clock, expected, lambda _function: 1000)


def test_demand_is_the_sum_over_activators(hub: Hub, expected: Expected, report: MakeReport) -> None:
    expected.count = 2
    hub.take(report("a-1", demands={CHAT: BUSY, OTHER: IDLE}))
    hub.take(report("a-2", demands={CHAT: Demand(2, 1, 1, 30.0, (("pod-1", 1),))}))
    assert hub.demand() == {CHAT: Demand(3, 5, 10, 30.0, (("pod-1", 5),)), OTHER: IDLE}


steps = st.lists(
    st.tuples(
        st.sampled_from(["a-1", "a-2", "a-3"]),
        st.floats(0.0, 12.0),
        st.dictionaries(st.sampled_from([CHAT, OTHER]), st.sampled_from([IDLE, WAITING, BUSY])),
    ),
    max_size=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=steps)
def test_how_often_demand_is_asked_for_does_not_change_it(
    clock: FakeClock, report: MakeReport, story: list[tuple[str, float, dict[FunctionId, Demand]]]
) -> None:
    """What is added up is kept between the calls; it must be what a first call finds."""
    often, once = (Hub("operator-1", clock, lambda: 1, lambda _function: 1000) for _ in range(2))
    for sequence, (activator, seconds, demands) in enumerate(story):
        clock.advance(seconds)
        for hub in (often, once):
            hub.take(report(activator, sequence, demands=demands))
        often.demand()
    assert often.demand() == once.demand()


def test_nothing_is_known_of_a_function_that_nobody_tells_of(hub: Hub, report: MakeReport) -> None:
    hub.take(report(demands={CHAT: IDLE}))
    assert OTHER not in hub.demand()


def test_silence_of_expected_activators_is_not_idleness(hub: Hub, expected: Expected, report: MakeReport) -> None:
    expected.count = 2
    hub.take(report("a-1", demands={CHAT: IDLE, OTHER: BUSY}))
    assert hub.demand() == {}
    hub.take(report("a-2"))
    assert hub.demand() == {CHAT: IDLE, OTHER: BUSY}


def test_requests_that_wait_for_a_start_need_not_wait_for_silent_activators(
    hub: Hub, expected: Expected, report: MakeReport
) -> None:
    expected.count = 2
    hub.take(report("a-1", demands={CHAT: WAITING, OTHER: IDLE}))
    assert hub.demand() == {CHAT: WAITING}


def test_a_new_leader_waits_for_silent_activators_only_so_long(
    hub: Hub, expected: Expected, report: MakeReport, clock: FakeClock
) -> None:
    expected.count = 3
    clock.advance(9.0)
    hub.take(report(demands={CHAT: IDLE}))
    assert hub.demand() == {}
    clock.advance(1.0)
    assert hub.demand() == {CHAT: IDLE}


def test_no_expected_activator_does_not_make_silence_known(hub: Hub, expected: Expected, report: MakeReport) -> None:
    expected.count = 0
    assert hub.demand() == {}
    expected.count = 2
    hub.take(report("a-1", demands={CHAT: IDLE}))
    assert hub.demand() == {}


def test_more_activators_later_do_not_make_all_unknown_again(hub: Hub, expected: Expected, report: MakeReport) -> None:
    hub.take(report(demands={CHAT: IDLE}))
    assert hub.demand() == {CHAT: IDLE}
    expected.count = 2
    assert hub.demand() == {CHAT: IDLE}


def test_a_silent_activator_is_dropped_and_its_functions_alone_are_unknown(
    hub: Hub, report: MakeReport, clock: FakeClock
) -> None:
    hub.take(report("a-1", demands={CHAT: BUSY, OTHER: BUSY}))
    clock.advance(6.0)
    hub.take(report("a-2", demands={CHAT: IDLE}))
    clock.advance(6.0)
    assert hub.demand() == {CHAT: Demand(0, 0, 14, 20.0)}  # its arrivals and its activity have been


def test_a_silent_activator_that_comes_back_tells_all_and_is_not_counted_twice(
    hub: Hub, report: MakeReport, clock: FakeClock
) -> None:
    hub.take(report(demands={CHAT: BUSY}))
    clock.advance(60.0)
    assert hub.take(report(sequence=2, full=False)).resync
    assert hub.demand() == {}
    assert not hub.take(report(sequence=3, demands={CHAT: Demand(0, 0, 11, 25.0)})).resync
    assert hub.demand() == {CHAT: Demand(0, 0, 11, 25.0)}


def test_arrivals_never_fall_when_an_activator_starts_anew(hub: Hub, report: MakeReport) -> None:
    hub.take(report(demands={CHAT: IDLE}))
    hub.take(report(started_at=2.0, demands={CHAT: Demand(0, 0, 2, 11.0)}))
    assert hub.demand()[CHAT].arrived_total == 7


def test_a_new_term_knows_nothing(hub: Hub, report: MakeReport) -> None:
    hub.take(report(demands={CHAT: IDLE}))
    hub.begin()
    assert hub.demand() == {}
    assert hub.take(report(sequence=2, full=False)).resync


def test_a_deleted_function_is_forgotten_with_its_counts(hub: Hub, report: MakeReport) -> None:
    hub.take(report(demands={CHAT: IDLE}))
    hub.take(report(sequence=2, full=False, gone=(CHAT,)))
    assert hub.demand() == {}
    hub.take(report(sequence=3, full=False, demands={CHAT: Demand(0, 0, 1, 1.0)}))
    assert hub.demand() == {CHAT: Demand(0, 0, 1, 1.0)}


def test_the_cause_of_a_start_is_the_key_of_a_waiting_request(hub: Hub, report: MakeReport) -> None:
    hub.take(report("a-1", demands={CHAT: IDLE}))
    assert hub.cause(CHAT) == ""
    hub.take(report("a-2", demands={CHAT: WAITING}, causes={CHAT: "k-alice"}))
    assert hub.cause(CHAT) == "k-alice"


def test_answers_share_the_bound(hub: Hub, report: MakeReport) -> None:
    first = hub.take(report("a-1", demands={CHAT: IDLE}))
    assert (first.leader, first.activators, first.shares) == ("operator-1", 1, {})
    hub.take(report("a-2", demands={CHAT: IDLE}))
    answer = hub.take(report("a-1", sequence=2, demands={CHAT: Demand(400, 0, 400, 10.0)}))
    assert answer.activators == 2
    assert answer.shares.get(CHAT, 500) == 500  # the other one may hold its 500 until it is told otherwise
    assert hub.take(report("a-2", sequence=2, full=False)).shares == {CHAT: 300}
    assert hub.take(report("a-1", sequence=3, full=False)).shares == {CHAT: 700}


def test_an_activator_that_leaves_takes_no_part_of_the_bound_from_the_others(hub: Hub, report: MakeReport) -> None:
    hub.take(report("a-1", demands={CHAT: IDLE}))
    hub.take(report("a-2", demands={CHAT: BUSY}))
    left = hub.take(report("a-2", 2, leaving=True, demands={CHAT: BUSY}))

    alone = hub.take(report("a-1", 2, demands={CHAT: IDLE}))

    assert (alone.activators, alone.shares) == (1, {})
    assert left.activators == 1
    assert hub.demand()[CHAT].in_flight == 4


def test_activators_are_listed_with_silence_and_clock_skew(hub: Hub, report: MakeReport, clock: FakeClock) -> None:
    hub.take(report(sent_at=clock.now() - 3.0))
    clock.advance(2.0)
    (seen,) = hub.activators().values()
    assert (seen.silent_seconds, seen.skew_seconds) == (2.0, 3.0)
    clock.advance(3600.0)
    hub.take(report("a-2"))
    assert set(hub.activators()) == {"a-2"}
