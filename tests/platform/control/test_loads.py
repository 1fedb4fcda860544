"""A function's work told apart by revision: nothing is lost, and nothing counts twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pilotlight.activator.values import Demand, RevisionDemand
from pilotlight.detector.values import Load
from pilotlight.platform.control.loads import loads

NAMES = ["chat-00001", "chat-00002", "chat-00003"]
counts = st.integers(0, 9)


@st.composite
def demands(draw: st.DrawFn) -> Demand:
    parts = tuple(
        RevisionDemand(name, draw(counts), draw(counts), draw(st.floats(0, 1e9)))
        for name in draw(st.lists(st.sampled_from(NAMES), unique=True))
    )
    queued, in_flight = sum(part.queued for part in parts), sum(part.in_flight for part in parts)
    return Demand(queued, in_flight, 0, max((part.last_active for part in parts), default=0.0), (), parts)


@given(demands(), st.sets(st.sampled_from(NAMES)))
def test_the_loads_add_up_to_the_demand(demand: Demand, beside: set[str]) -> None:
    own, apart = loads(demand, woken=False, beside=beside)

    assert apart.keys() == beside
    assert sum(load.queued for load in (own, *apart.values())) == demand.queued
    assert sum(load.in_flight for load in (own, *apart.values())) == demand.in_flight
    assert max(load.last_active for load in (own, *apart.values())) == demand.last_active


@given(demands())
def test_where_nothing_is_split_it_is_all_the_functions_own(demand: Demand) -> None:
    assert loads(demand, woken=False) == (Load(demand.queued, demand.in_flight, demand.last_active), {})


@given(demands(), st.sets(st.sampled_from(NAMES)))
def test_a_refused_caller_counts_once_and_only_where_nothing_is_served(demand: Demand, beside: set[str]) -> None:
    before, others = loads(demand, woken=False, beside=beside)
    own, apart = loads(demand, woken=True, beside=beside)

    pairs = [(before, own), *((others[name], apart[name]) for name in beside)]
    more = [(was, now) for was, now in pairs if was != now]
    assert len(more) <= 1
    assert all((was.queued, was.in_flight, now.queued) == (0, 0, 1) for was, now in more)


def test_a_refused_caller_is_work_of_the_revision_that_was_asked_last() -> None:
    demand = Demand(0, 1, 2, 20.0, (), (RevisionDemand(NAMES[0], 0, 0, 20.0), RevisionDemand(NAMES[1], 0, 1, 10.0)))

    own, apart = loads(demand, woken=True, beside={NAMES[0]})

    assert (own.queued, apart[NAMES[0]].queued) == (0, 1)
