"""When an activator starts a first replica by itself, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.platform.edge.conftest import CHAT, make_view, revision

from pilotlight.activator.values import Demand, FunctionId, RevisionDemand
from pilotlight.platform.edge.failopen import FailOpen, stranded, waiting
from pilotlight.platform.edge.views import Endpoint, View
from pilotlight.platform.kubernetes.kinds import Key

if TYPE_CHECKING:
    from tests.platform.conftest import ManualClock
    from tests.platform.edge.apiserver import ApiServer

OLD, NEW = "chat-00001", "chat-00002"
POD = Endpoint("a", "10.0.0.1", ready=False, leaving=False)
DEPLOYMENT = Key("team", f"{NEW}-deployment")


@pytest.mark.parametrize(
    ("waited", "silent", "verdict"),
    [(4.9, 60.0, False), (5.0, 60.0, True), (9.9, 0.0, False), (10.0, 0.0, True)],
)
def test_a_leader_that_answers_is_given_twice_the_time(waited: float, silent: float, verdict: bool) -> None:
    assert stranded(make_view(revision(2)), NEW, waited, silent, 5.0) is verdict


@given(
    waited=st.floats(0, 100),
    silent=st.floats(0, 100),
    patience=st.floats(0.1, 30),
    longer=st.floats(0, 100),
)
def test_who_is_stranded_stays_so_until_somebody_acts(
    waited: float, silent: float, patience: float, longer: float
) -> None:
    view = make_view(revision(2))

    if stranded(view, NEW, waited, silent, patience):
        assert waited >= patience
        assert stranded(view, NEW, waited + longer, silent + longer, patience)
    else:
        assert waited < 2 * patience


def test_nobody_is_stranded_where_a_pod_is_there() -> None:
    view = make_view(revision(2), revision(1), pods={NEW: [POD]})

    assert not stranded(view, NEW, 60.0, 60.0, 5.0)
    assert stranded(view, OLD, 60.0, 60.0, 5.0)


@pytest.mark.parametrize("changes", [{"failure": "no memory"}, {"autoscaler": "kpa"}])
def test_what_fails_or_is_anothers_to_start_is_left_alone(changes: dict[str, str]) -> None:
    assert not stranded(make_view(revision(2, **changes)), NEW, 60.0, 60.0, 5.0)


def test_a_revision_that_nobody_has_told_of_is_left_alone() -> None:
    assert not stranded(make_view(revision(2)), OLD, 60.0, 60.0, 5.0)


def test_requests_wait_for_revisions_with_a_queue() -> None:
    parts = (RevisionDemand(OLD, 0, 3), RevisionDemand(NEW, 2, 0))

    assert list(waiting(Demand(2, 3, 5, 0.0, (), parts))) == [NEW]


class Stage:
    """Requests wait for the newer revision, and the operator is silent."""

    def __init__(self, api_server: ApiServer, clock: ManualClock) -> None:
        self.view = make_view(revision(2))
        self.queued = 1
        self._clock = clock
        self.fail_open = FailOpen(
            api_server.api(), self._views, self._demand, lambda: clock.monotonic() - begun, clock, patience=5.0
        )
        begun = clock.monotonic()

    def _views(self) -> dict[FunctionId, View]:
        return {CHAT: self.view}

    def _demand(self) -> dict[FunctionId, Demand]:
        parts = (RevisionDemand(NEW, self.queued, 0),)
        return {CHAT: Demand(self.queued, 0, 1, 0.0, (), parts)} if self.queued else {}

    async def passes(self, seconds: float) -> None:
        await self.fail_open.look()
        self._clock.time += seconds
        await self.fail_open.look()


@pytest.fixture
def stage(api_server: ApiServer, clock: ManualClock) -> Stage:
    return Stage(api_server, clock)


async def test_a_deployment_at_zero_gets_one_replica(stage: Stage, api_server: ApiServer) -> None:
    await stage.passes(4.9)
    assert api_server.scales == {}

    await stage.passes(0.2)

    assert api_server.scales == {DEPLOYMENT: 1}


async def test_one_that_has_replicas_keeps_its_count(stage: Stage, api_server: ApiServer) -> None:
    api_server.scales[DEPLOYMENT] = 3

    await stage.passes(60.0)

    assert api_server.scales == {DEPLOYMENT: 3}


async def test_it_is_tried_again_when_nothing_comes_of_it(stage: Stage, api_server: ApiServer) -> None:
    api_server.away()
    await stage.passes(5.0)
    api_server.back()
    await stage.passes(4.9)
    assert api_server.scales == {}

    await stage.passes(0.2)

    assert api_server.scales == {DEPLOYMENT: 1}


async def test_the_time_counts_from_when_the_last_pod_was_seen_or_nobody_waited(
    stage: Stage, api_server: ApiServer
) -> None:
    await stage.passes(4.0)
    stage.queued = 0
    await stage.passes(4.0)
    stage.queued = 1
    await stage.passes(4.0)
    stage.view = make_view(revision(2), pods={NEW: [POD]})
    await stage.passes(4.0)
    stage.view = make_view(revision(2))
    await stage.passes(4.9)

    assert api_server.scales == {}
