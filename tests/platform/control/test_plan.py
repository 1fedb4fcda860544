"""The plan: named cases for each numbered policy, and what holds for every world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilotlight.activator.values import FunctionId
from pilotlight.detector.values import BackOff, Reason
from pilotlight.platform.control.plan import plan, serving
from pilotlight.platform.control.world import Drain, FunctionView, Plan, ReplicaView, Room, Start, Stop, Wait, World
from pilotlight.platform.values import Policy
from pilotlight.runtime.spec import ReplicaState

GIB = 2**30
NOW = 1000.0
Make = Callable[..., Any]
STARTING, READY, DRAINING = ReplicaState.STARTING, ReplicaState.READY, ReplicaState.DRAINING


def look(
    functions: list[FunctionView],
    replicas: list[ReplicaView],
    memory: int = 100 * GIB,
    devices: dict[str, int] | None = None,
) -> Plan:
    return plan(World(NOW, Room(memory, 4, devices or {}), tuple(functions), tuple(replicas)))


def brief(result: Plan) -> list[str]:
    """Each action in a word or two, for comparing."""
    words = []
    for action in result.actions:
        subject = action.replica if isinstance(action, Drain | Stop) else action.function.name
        words.append(f"{type(action).__name__.lower()} {subject}")
    return words


def test_nothing_to_do_at_zero(function: Make) -> None:
    assert brief(look([function("chat")], [])) == []


def test_first_request_starts_exactly_one_however_many_wait(function: Make, replica: Make) -> None:
    view = function("chat", queued=50, last=NOW)

    assert brief(look([view], [])) == ["start chat"]
    assert brief(look([view], [replica("r1", "chat", STARTING)])) == []


def test_more_demand_starts_more_up_to_the_maximum(function: Make, replica: Make) -> None:
    view = function("chat", queued=50, last=NOW, policy=Policy(maximum=3))

    assert brief(look([view], [replica("r1", "chat")])) == ["start chat", "start chat"]


def test_a_minimum_is_started_without_demand(function: Make) -> None:
    assert brief(look([function("chat", policy=Policy(minimum=1))], [])) == ["start chat"]


def test_idle_for_the_keep_alive_drains_to_zero(function: Make, replica: Make) -> None:
    view = function("chat", last=NOW - 301, desired=1)

    result = look([view], [replica("r1", "chat")])

    assert brief(result) == ["drain r1"]
    assert result.decisions[view.id].reason is Reason.IDLE_ZERO


def test_a_start_that_nobody_waits_for_any_more_is_finished_and_then_idles(function: Make, replica: Make) -> None:
    view = function("chat", last=NOW - 301, desired=1)

    assert brief(look([view], [replica("r1", "chat", STARTING)])) == []
    assert brief(look([view], [replica("r1", "chat", ready_at=NOW - 299)])) == []
    assert brief(look([view], [replica("r1", "chat", ready_at=NOW - 300)])) == ["drain r1"]


def test_a_surplus_takes_the_starting_then_the_emptiest(function: Make, replica: Make) -> None:
    view = function("chat", in_flight=4, last=NOW, policy=Policy(maximum=1), desired=3)
    replicas = [
        replica("busy", "chat", in_flight=3),
        replica("quiet", "chat", in_flight=1),
        replica("new", "chat", STARTING),
    ]

    assert brief(look([view], replicas)) == ["stop new", "drain quiet"]


def test_a_deleted_function_loses_its_replicas(replica: Make) -> None:
    replicas = [replica("r1", "gone"), replica("r2", "gone", STARTING), replica("r3", "gone", DRAINING)]

    assert brief(look([], replicas)) == ["drain r1", "stop r2"]


def test_unknown_demand_changes_nothing(function: Make, replica: Make) -> None:
    view = function("chat", known=False, desired=1)

    assert brief(look([view], [replica("r1", "chat")])) == []


def test_back_off_starts_nothing_until_it_is_due(function: Make) -> None:
    view = function("chat", queued=3, last=NOW)
    waiting = FunctionView(
        view.id, view.revision, view.policy, view.load, view.state.__class__(0.0, back_off=BackOff(2, NOW + 3, "boom"))
    )

    result = look([waiting], [])

    assert brief(result) == []
    assert result.decisions[view.id].reason is Reason.BACK_OFF


class TestRollout:
    def test_the_old_revision_serves_until_the_new_one_is_ready(self, function: Make, replica: Make) -> None:
        view = function("chat", in_flight=1, last=NOW, desired=1, number=2)
        old = replica("old", "chat", in_flight=1)

        assert brief(look([view], [old])) == ["start chat"]
        assert brief(look([view], [old, replica("new", "chat", STARTING, number=2)])) == []
        assert serving(view, [old, replica("new", "chat", STARTING, number=2)], 1) == "chat-00001"
        both = [old, replica("new", "chat", number=2)]
        assert brief(look([view], both)) == ["drain old"]
        assert serving(view, both, 1) == "chat-00002"

    def test_as_many_new_ones_as_old_ones_before_the_switch(self, function: Make, replica: Make) -> None:
        view = function("chat", in_flight=8, last=NOW, desired=2, number=2, policy=Policy(maximum=2))
        old = [replica("o1", "chat", in_flight=4), replica("o2", "chat", in_flight=4)]
        one = [replica("n1", "chat", number=2), replica("n2", "chat", STARTING, number=2)]

        assert brief(look([view], [*old, *one])) == []

    def test_at_zero_it_switches_at_once(self, function: Make, replica: Make) -> None:
        view = function("chat", last=NOW - 999, desired=1, number=2)

        assert brief(look([view], [replica("old", "chat")])) == ["drain old"]
        assert serving(view, [], 0) == "chat-00002"

    def test_an_old_start_is_given_up(self, function: Make, replica: Make) -> None:
        view = function("chat", queued=1, last=NOW, desired=1, number=2)

        assert brief(look([view], [replica("old", "chat", STARTING)])) == ["stop old", "start chat"]

    def test_without_room_for_both_the_idle_old_one_makes_way(self, function: Make, replica: Make) -> None:
        view = function("chat", last=NOW - 1, desired=1, number=2)

        result = look([view], [replica("old", "chat")], memory=GIB)

        assert brief(result) == ["drain old", "wait chat"]
        assert result.decisions[view.id].state.desired == 1

    def test_a_busy_old_one_does_not(self, function: Make, replica: Make) -> None:
        view = function("chat", in_flight=1, last=NOW, desired=1, number=2)

        assert brief(look([view], [replica("old", "chat", in_flight=1)], memory=GIB)) == ["wait chat"]


class TestShares:
    """Older revisions with a share of the traffic."""

    CLUSTER = Room(0, 0, {}, elsewhere=True)

    def look(self, own: FunctionView, beside: FunctionView, *replicas: ReplicaView) -> Plan:
        return plan(World(NOW, self.CLUSTER, (own,), replicas, (beside,)))

    def test_each_is_started_by_its_own_demand(self, function: Make) -> None:
        own, older = function("chat", number=2, last=NOW), function("chat", queued=1, last=NOW)

        result = self.look(own, older)

        assert [action.revision for action in result.actions if isinstance(action, Start)] == ["chat-00001"]
        assert (result.decisions[own.id].desired, result.beside[older.at].desired) == (0, 1)

    def test_each_goes_to_zero_after_its_own_keep_alive(self, function: Make, replica: Make) -> None:
        own = function("chat", number=2, last=NOW - 1, desired=1)
        older = function("chat", last=NOW - 301, desired=1)

        result = self.look(own, older, replica("new", "chat", number=2), replica("old", "chat"))

        assert brief(result) == ["drain old"]

    def test_a_newer_revision_does_not_replace_it(self, function: Make, replica: Make) -> None:
        own = function("chat", number=2, in_flight=1, last=NOW, desired=1)
        older = function("chat", in_flight=1, last=NOW, desired=1)

        assert brief(self.look(own, older, replica("new", "chat", number=2), replica("old", "chat"))) == []

    def test_it_does_not_serve_for_a_newer_one_that_starts(self, function: Make, replica: Make) -> None:
        own, older = function("chat", number=2, queued=1, last=NOW, desired=1), function("chat", last=NOW, desired=1)
        world = World(NOW, self.CLUSTER, (own,), (replica("old", "chat"),), (older,))

        assert serving(own, world.rolling(), 1) == "chat-00002"

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(data=st.data())
    def test_what_is_split_off_is_decided_as_a_function_of_its_own_would_be(
        self, function: Make, replica: Make, data: st.DataObject
    ) -> None:
        draw = data.draw
        one, two = (
            function(
                "chat",
                number=number,
                queued=draw(st.integers(0, 9)),
                in_flight=draw(st.integers(0, 9)),
                last=draw(st.floats(0, NOW)),
                desired=draw(st.integers(0, 3)),
                policy=Policy(maximum=3),
            )
            for number in (1, 2)
        )
        replicas = [
            replica(
                f"r{each}", "chat", draw(st.sampled_from([STARTING, READY, DRAINING])), number=draw(st.integers(1, 2))
            )
            for each in range(draw(st.integers(0, 5)))
        ]

        together = self.look(two, one, *replicas)
        alone = [
            plan(World(NOW, self.CLUSTER, (view,), tuple(r for r in replicas if r.revision == view.revision.name)))
            for view in (one, two)
        ]

        assert together.beside[one.at] == alone[0].decisions[one.id]
        assert together.decisions[two.id] == alone[1].decisions[two.id]
        assert sorted(map(str, together.actions)) == sorted(str(action) for each in alone for action in each.actions)


class TestEviction:
    def test_the_least_recently_used_idle_function_makes_way(self, function: Make, replica: Make) -> None:
        views = [
            function("wants", queued=1, last=NOW),
            function("recent", last=NOW - 10, desired=1),
            function("older", last=NOW - 20, desired=1),
        ]

        result = look(views, [replica("r1", "recent"), replica("r2", "older")], memory=2 * GIB)

        assert brief(result) == ["drain r2", "wait wants"]
        assert result.decisions[FunctionId("team-a", "older")].state.desired == 0

    @pytest.mark.parametrize(
        ("namespace", "left", "waits"),
        [
            pytest.param("team-a", "team-a/wants", "team-a/older", id="its own namespace"),
            pytest.param("team-b", "a function of another namespace", "a function of another namespace", id="another"),
        ],
    )
    def test_only_functions_of_the_same_namespace_are_named(
        self, function: Make, replica: Make, namespace: str, left: str, waits: str
    ) -> None:
        older = replace(function("older", last=NOW - 20, desired=1), id=FunctionId(namespace, "older"))
        idle = replace(replica("r2", "older"), function=older.id)

        result = look([function("wants", queued=1, last=NOW), older], [idle], memory=GIB)

        assert [action.reason for action in result.actions] == [
            f"idle, makes way for {left}",
            f"waits until what is idle has made way: {waits}",
        ]

    def test_it_is_not_started_again_in_the_next_look(self, function: Make, replica: Make) -> None:
        views = [function("wants", queued=1, last=NOW), function("older", last=NOW - 20)]

        draining = [replica("r2", "older", DRAINING)]
        assert brief(look(views, draining, memory=GIB)) == ["wait wants"]
        assert brief(look(views, [], memory=GIB)) == ["start wants"]

    def test_no_more_go_than_are_needed(self, function: Make, replica: Make) -> None:
        views = [
            function("wants", queued=1, last=NOW, memory_bytes=3 * GIB),
            function("small", last=NOW - 30, desired=1),
            function("large", last=NOW - 20, desired=1),
        ]
        replicas = [replica("r1", "small"), replica("r2", "large", memory_bytes=3 * GIB)]

        assert brief(look(views, replicas, memory=4 * GIB)) == ["drain r2", "wait wants"]

    @pytest.mark.parametrize(
        ("other", "in_flight"),
        [
            pytest.param({"in_flight": 1, "last": NOW, "desired": 1}, 1, id="busy"),
            pytest.param({"last": NOW - 9, "policy": Policy(minimum=1)}, 0, id="at its minimum"),
            pytest.param({"queued": 1, "last": NOW, "desired": 1}, 0, id="work is about to reach it"),
            pytest.param({"known": False, "desired": 1}, 0, id="unknown load"),
        ],
    )
    def test_who_never_makes_way(self, function: Make, replica: Make, other: dict[str, Any], in_flight: int) -> None:
        views = [function("wants", queued=1, last=NOW), function("other", **other)]

        result = look(views, [replica("r1", "other", in_flight=in_flight)], memory=GIB)

        assert brief(result) == ["wait wants"]
        reason = result.actions[0].reason
        assert "needs 1.00 GiB" in reason
        assert "nothing idle can make way" in reason

    def test_a_device_is_freed_as_memory_is(self, function: Make, replica: Make) -> None:
        gpu = {"devices": 1, "device_bytes": 60 * GIB, "device_pool": ("GPU-1",), "memory_bytes": GIB}
        views = [function("wants", queued=1, last=NOW, **gpu), function("older", last=NOW - 20, desired=1, **gpu)]
        holder = replica("r2", "older", devices=("GPU-1",), device_bytes=60 * GIB)

        assert brief(look(views, [holder], devices={"GPU-1": 80 * GIB})) == ["drain r2", "wait wants"]


def test_starts_on_one_device_come_one_after_the_other(function: Make, replica: Make) -> None:
    gpu = {"devices": 1, "device_bytes": 10 * GIB, "device_pool": ("GPU-1",)}
    view = function("chat", queued=9, last=NOW, policy=Policy(maximum=2), **gpu)
    room = {"GPU-1": 80 * GIB}

    assert brief(look([view], [], devices=room)) == ["start chat", "wait chat"]
    first = replica("r1", "chat", STARTING, devices=("GPU-1",), device_bytes=10 * GIB)
    assert brief(look([view], [first], devices=room)) == ["wait chat"]
    first = replica("r1", "chat", READY, devices=("GPU-1",), device_bytes=10 * GIB)
    assert brief(look([view], [first], devices=room)) == ["start chat"]


def test_a_function_without_any_replica_goes_before_one_that_wants_more(function: Make, replica: Make) -> None:
    views = [
        function("big", queued=50, last=NOW, policy=Policy(maximum=5), desired=1),
        function("small", queued=1, last=NOW),
    ]

    result = look(views, [replica("r1", "big", in_flight=4)], memory=2 * GIB)

    assert brief(result)[0] == "start small"


names = st.sampled_from(["a", "b", "c", "d"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_what_holds_for_every_world(function: Make, replica: Make, data: st.DataObject) -> None:
    draw = data.draw
    views = [
        function(
            name,
            queued=draw(st.integers(0, 20)),
            in_flight=draw(st.integers(0, 8)),
            last=draw(st.floats(0, NOW)),
            desired=draw(st.integers(0, 3)),
            number=draw(st.integers(1, 2)),
            policy=Policy(minimum=draw(st.integers(0, 1)), maximum=draw(st.integers(1, 4))),
            memory_bytes=draw(st.integers(1, 4)) * GIB,
        )
        for name in draw(st.sets(names))
    ]
    replicas = [
        replica(
            f"r{number}",
            draw(names),
            draw(st.sampled_from([STARTING, READY, DRAINING])),
            number=draw(st.integers(1, 2)),
            in_flight=draw(st.integers(0, 2)),
            memory_bytes=draw(st.integers(1, 4)) * GIB,
        )
        for number in range(draw(st.integers(0, 6)))
    ]
    memory = draw(st.integers(0, 20)) * GIB

    result = look(views, replicas, memory=memory)

    by_id = {r.id: r for r in replicas}
    needs = {view.id: view.template.memory_bytes for view in views}
    starts = [action for action in result.actions if isinstance(action, Start)]
    if starts:  # memory is never promised twice
        assert sum(needs[s.function] for s in starts) + sum(r.memory_bytes for r in replicas) <= memory
    going = [action for action in result.actions if isinstance(action, Drain | Stop)]
    assert len({action.replica for action in going}) == len(going)
    for action in going:
        assert by_id[action.replica].alive
        assert isinstance(action, Stop) == (by_id[action.replica].state is STARTING)
        if "makes way" in action.reason:
            assert by_id[action.replica].in_flight == 0
    for view in views:  # never more than the maximum
        gone = {action.replica for action in going}
        alive = [
            r
            for r in replicas
            if r.function == view.id and r.revision == view.revision.name and r.alive and r.id not in gone
        ]
        assert len(alive) + sum(s.function == view.id for s in starts) <= view.policy.maximum
    assert look(views, replicas, memory=memory) == result
    waits = {action.function for action in result.actions if isinstance(action, Wait)}
    for view in views:  # nobody is forgotten: wanted is alive, started, or waits with a reason
        wanted = result.decisions[view.id].desired
        alive_now = sum(r.function == view.id and r.revision == view.revision.name and r.alive for r in replicas)
        if wanted > alive_now:
            assert view.id in waits or any(s.function == view.id for s in starts)
