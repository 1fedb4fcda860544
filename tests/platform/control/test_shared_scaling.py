"""The control loop where others scale too: pods that are found, counts that are told, revisions that share traffic."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pilotlight.activator.values import Demand, FunctionId, RevisionDemand
from pilotlight.platform.control.cluster import Found, RevisionId, Wanted
from pilotlight.platform.control.world import Room
from pilotlight.platform.values import Template
from pilotlight.runtime.spec import ReplicaState

if TYPE_CHECKING:
    from tests.platform.control.conftest import Stage

CHAT = FunctionId("team-a", "chat")
CHAT_1 = RevisionId(CHAT, "chat-00001")


async def test_whoever_asks_is_served_even_before_the_demand_is_known(stage: Stage, template: Template) -> None:
    stage.deploy(template)
    await stage.loop.round()
    del stage.traffic.work[CHAT]

    stage.loop.wake(CHAT)
    await stage.loop.round()

    assert [call[0] for call in stage.cluster.calls] == ["start"]


async def test_a_replica_that_others_started_is_taken_in(stage: Stage, template: Template) -> None:
    stage.deploy(template)
    await stage.loop.round()
    stage.cluster.running = (Found("pod-1", CHAT_1, 5.0),)
    stage.cluster.say("pod-1", ReplicaState.READY)

    await stage.loop.round()
    await stage.loop.round()

    assert [record.id for record in stage.stores.replicas.live()] == ["pod-1"]
    assert [replica.id for replica in stage.traffic.routes[CHAT].replicas] == ["pod-1"]


async def test_a_replica_gets_its_lasting_name_when_it_is_first_seen(stage: Stage, template: Template) -> None:
    stage.deploy(template)
    await stage.loop.round()
    stage.demand(queued=1)
    await stage.loop.round()
    started = stage.cluster.only()
    stage.cluster.named[started] = "pod-1"
    stage.cluster.say("pod-1", ReplicaState.READY)

    await stage.loop.round()

    assert [record.id for record in stage.stores.replicas.live()] == ["pod-1"]
    assert stage.cluster.wanted[CHAT_1].replicas == 1


async def test_a_cluster_that_counts_is_told_who_leaves_and_how_many_stay(stage: Stage, template: Template) -> None:
    name = await stage.ready(template)
    stage.demand()
    stage.clock.time += 400.0
    await stage.loop.round()

    assert stage.cluster.wanted[CHAT_1] == Wanted(
        0, stage.loop.known.functions[CHAT].policy, frozenset({name}), template.slots
    )


class TestSharedTraffic:
    """An older revision that users have given a share of the traffic."""

    OLD, NEW = RevisionId(CHAT, "chat-00001"), RevisionId(CHAT, "chat-00002")

    async def shared(self, stage: Stage, template: Template, **policy: Any) -> None:
        """Two revisions at zero, both with a share."""
        stage.deploy(template, **policy)
        stage.deploy(replace(template, slots=8), **policy)
        stage.shared = {CHAT: {"chat-00001", "chat-00002"}}
        await stage.loop.round()

    def asks(self, stage: Stage, *parts: RevisionDemand) -> None:
        queued, in_flight = sum(part.queued for part in parts), sum(part.in_flight for part in parts)
        stage.traffic.work[CHAT] = Demand(queued, in_flight, 0, stage.clock.now(), (), parts)

    async def test_it_is_started_by_its_own_demand_and_takes_it(self, stage: Stage, template: Template) -> None:
        await self.shared(stage, template)
        self.asks(stage, RevisionDemand("chat-00001", 1, 0, stage.clock.now()))
        await stage.loop.round()
        name = stage.cluster.only()
        stage.cluster.say(name, ReplicaState.READY)
        await stage.loop.round()

        route = stage.traffic.routes[CHAT]
        assert {at: each.replicas for at, each in stage.cluster.wanted.items()} == {self.OLD: 1, self.NEW: 0}
        assert (route.revision, [(each.revision, each.accepting) for each in route.replicas]) == (
            "chat-00002",
            [("chat-00001", True)],
        )
        assert [each.revision for each in route.revisions] == ["chat-00001"]
        assert ("chat-00001", 1) in [(each.revision, each.desired) for each in stage.stores.records.decisions(CHAT)]

    async def test_the_minimum_is_kept_by_the_functions_own_revision_alone(
        self, stage: Stage, template: Template
    ) -> None:
        await self.shared(stage, template, minimum=1)

        assert {at: each.replicas for at, each in stage.cluster.wanted.items()} == {self.OLD: 0, self.NEW: 1}

    async def test_its_crashes_are_its_own(self, stage: Stage, template: Template) -> None:
        await self.shared(stage, template)
        self.asks(stage, RevisionDemand("chat-00001", 1, 0, stage.clock.now()))
        await stage.loop.round()
        stage.cluster.say(stage.cluster.only(), ReplicaState.FAILED, message="no memory")
        await stage.loop.round()

        route = stage.traffic.routes[CHAT]
        assert (route.failure, route.of("chat-00001").failure) == ("", "no memory")
        stage.loop = stage.new_loop()
        await stage.loop.adopt()
        await stage.loop.round()
        assert stage.traffic.routes[CHAT].of("chat-00001").failure == "no memory"

    async def test_without_its_share_it_is_replaced(self, stage: Stage, template: Template) -> None:
        await self.shared(stage, template)
        self.asks(stage, RevisionDemand("chat-00001", 1, 0, stage.clock.now()))
        await stage.loop.round()
        name = stage.cluster.only()
        stage.cluster.say(name, ReplicaState.READY)
        self.asks(stage)
        await stage.loop.round()
        assert stage.cluster.calls == [("start", name)]

        stage.shared = {}
        await stage.loop.round()

        assert stage.cluster.calls[-1] == ("drain", name)
        assert stage.traffic.routes[CHAT].revisions == ()


class TestLeftToKnative:
    """Functions that Knative's own autoscaler scales."""

    @pytest.mark.parametrize(("minimum", "queued", "floor"), [(0, 0, 0), (1, 0, 1), (0, 20, 1)])
    async def test_the_count_is_told_as_a_floor_and_no_replica_is_asked_for(
        self, stage: Stage, template: Template, minimum: int, queued: int, floor: int
    ) -> None:
        stage.loop = stage.new_loop(Room(0, 0, {}, elsewhere=True))
        stage.deploy(replace(template, autoscaler="kpa"), minimum=minimum, maximum=1)
        await stage.loop.round()
        stage.demand(queued=queued)

        await stage.loop.round()

        wanted = stage.cluster.wanted[CHAT_1]
        assert (wanted.replicas, wanted.policy.maximum, wanted.slots, wanted.by_knative) == (floor, 1, 4, True)
        assert stage.cluster.calls == []

    async def test_a_change_of_the_autoscaler_hands_over_to_a_new_revision(
        self, stage: Stage, template: Template
    ) -> None:
        stage.loop = stage.new_loop(Room(0, 0, {}, elsewhere=True))
        name = await stage.ready(template)
        stage.deploy(replace(template, autoscaler="kpa"))
        await stage.loop.round()

        assert stage.cluster.wanted[RevisionId(CHAT, "chat-00002")].by_knative
        assert stage.cluster.wanted[CHAT_1].by_knative is False
        assert stage.cluster.calls[0] == ("start", name)
