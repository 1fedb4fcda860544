"""The control loop with a scripted cluster and activator: order, crashes, restarts, and who is told what when."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Engine, event

from pilotlight.activator.values import Demand, FunctionId
from pilotlight.detector.replay import replay
from pilotlight.platform.control.cluster import Found, RevisionId
from pilotlight.platform.control.observing import HEALTHY_SECONDS, crashes_in_a_row
from pilotlight.platform.database.connection import Database
from pilotlight.platform.database.functions import Change
from pilotlight.platform.values import Policy, ReplicaRecord, Template
from pilotlight.runtime.spec import ReplicaState

if TYPE_CHECKING:
    from tests.platform.control.conftest import Stage

CHAT = FunctionId("team-a", "chat")
CHAT_1 = RevisionId(CHAT, "chat-00001")


async def test_a_request_at_zero_starts_one_replica_with_its_cause(stage: Stage, template: Template) -> None:
    name = await stage.ready(template)

    assert stage.cluster.calls == [("start", name)]
    spec = stage.cluster.specs[name]
    assert (spec.function, spec.revision, spec.engine.key, spec.created_at) == (
        "team-a/chat",
        "chat-00001",
        "engine-key",
        stage.clock.now(),
    )
    [record] = stage.stores.replicas.live()
    assert (record.caused_by, record.cpus, record.state) == ("key-1", (0,), "ready")
    [replica] = stage.traffic.routes[CHAT].replicas
    assert (replica.id, replica.accepting, replica.engine_key) == (name, True, "engine-key")
    assert stage.stores.replicas.starts(template.digest, "simulated") == ({"load": 2.0},)


async def test_the_activator_is_told_how_many_may_wait_and_how_long(stage: Stage, template: Template) -> None:
    stage.deploy(template)
    await stage.loop.round()

    assert (stage.traffic.routes[CHAT].queue_limit, stage.traffic.routes[CHAT].hold_seconds) == (7, 77.0)


async def test_a_change_does_not_read_anew_how_long_starts_take(stage: Stage, template: Template) -> None:
    name = await stage.ready(template)
    learned = stage.loop.eta(CHAT)
    statements: list[str] = []
    with listening(statements):
        stage.deploy(template, maximum=5)
        await stage.loop.round()

    assert any("FROM revisions" in statement for statement in statements)
    assert not any("FROM start_phases" in statement for statement in statements)
    assert stage.loop.eta(CHAT) == learned == {**learned, "load": 2.0}
    assert name in stage.loop.known.live


@contextmanager
def listening(statements: list[str]) -> Iterator[None]:
    """To what is sent to any database."""

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def test_it_takes_no_new_work_before_it_is_told_to_end(stage: Stage, template: Template) -> None:
    name = await stage.ready(template, keep_alive_seconds=5.0)
    stage.demand()
    stage.clock.time += 6

    await stage.loop.round()

    assert stage.cluster.calls[-1] == ("drain", name)
    assert [replica.accepting for replica in stage.traffic.routes[CHAT].replicas] == [False]
    await stage.loop.round()
    assert stage.stores.replicas.live() == ()
    assert stage.traffic.routes[CHAT].replicas == ()
    assert stage.reasons()[0] == "idle_zero" or stage.reasons()[0] == "idle"


async def test_a_leaving_replica_ends_only_when_its_streams_have(stage: Stage, template: Template) -> None:
    name = await stage.ready(template)
    stage.functions.delete(CHAT, stage.clock.now())
    stage.demand(0, 1, **{name: 1})
    stage.loop.changed()

    await stage.loop.round()
    assert stage.cluster.calls == [("start", name)]
    stage.demand(0, 0, **{name: 0})
    await stage.loop.round()

    assert stage.cluster.calls[-1] == ("drain", name)


async def test_a_stream_that_never_ends_does_not_keep_it_for_ever(stage: Stage, template: Template) -> None:
    name = await stage.ready(template)
    stage.functions.delete(CHAT, stage.clock.now())
    stage.demand(0, 1, **{name: 1})
    stage.loop.changed()
    await stage.loop.round()
    stage.clock.time += 31

    await stage.loop.round()

    assert stage.cluster.calls[-1] == ("stop", name)


async def test_a_replica_that_did_not_hear_is_asked_again_and_stopped_in_the_end(
    stage: Stage, template: Template
) -> None:
    name = await stage.ready(template, keep_alive_seconds=1.0)
    stage.demand()
    stage.cluster.deaf = True
    for _ in range(10):
        stage.clock.time += 4
        await stage.loop.round()

    asked = [call for call, replica in stage.cluster.calls if replica == name]
    assert asked == ["start", "drain", "drain", "drain", "drain", "stop"]
    assert stage.stores.replicas.live() == ()


async def test_crashes_in_a_row_back_off_and_health_forgives_them(stage: Stage, template: Template) -> None:
    stage.deploy(template)
    await stage.loop.round()
    stage.demand(queued=1)
    waits = []
    for _ in range(3):
        await stage.loop.round()
        stage.cluster.say(stage.cluster.only(), ReplicaState.FAILED, message="no memory", log_tail=("boom",))
        await stage.loop.round()
        route = stage.traffic.routes[CHAT]
        assert route.failure == "no memory; the log ends: boom"
        waits.append(route.retry_after_seconds)
        stage.clock.time += route.retry_after_seconds
    assert waits == [1.0, 2.0, 4.0]
    assert "back_off" in stage.reasons()

    await stage.loop.round()
    stage.cluster.say(stage.cluster.only(), ReplicaState.READY)
    await stage.loop.round()
    assert stage.loop.known.memory[CHAT].state.back_off.failures == 3
    stage.clock.time += HEALTHY_SECONDS
    stage.demand(in_flight=1)
    await stage.loop.round()

    assert stage.loop.known.memory[CHAT].state.back_off.failures == 0


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_death_while_serving_is_not_called_a_failed_start(
    stage: Stage, template: Template, restarted: bool
) -> None:
    name = await stage.ready(template)
    stage.cluster.say(name, ReplicaState.FAILED, message="killed")
    stage.demand(queued=1)
    if restarted:
        stage.loop = stage.new_loop()
        await stage.loop.adopt()
    await stage.loop.round()

    [record] = [record for record in stage.stores.records.decisions(CHAT) if record.reason == "back_off"]
    assert record.sentence == "a replica died while serving; the next start is due in 1.0 s"
    assert stage.traffic.routes[CHAT].failure == ""


async def test_a_new_revision_does_not_inherit_the_back_off(stage: Stage, template: Template) -> None:
    stage.deploy(template)
    await stage.loop.round()
    stage.demand(queued=1)
    await stage.loop.round()
    stage.cluster.say(stage.cluster.only(), ReplicaState.FAILED, message="no memory")
    await stage.loop.round()

    stage.deploy(replace(template, slots=2))
    await stage.loop.round()

    assert stage.traffic.routes[CHAT].failure == ""
    assert stage.cluster.only().startswith("chat-00002")


async def test_a_replica_that_cannot_even_be_launched_is_a_crash(stage: Stage, template: Template) -> None:
    stage.cluster.broken = "no processes left"
    stage.deploy(template)
    await stage.loop.round()
    stage.demand(queued=1)

    await stage.loop.round()
    await stage.loop.round()

    assert stage.traffic.routes[CHAT].failure == "no processes left"
    assert stage.stores.replicas.live() == ()


async def test_a_restart_adopts_what_lives_and_ends_what_nobody_knows(stage: Stage, template: Template) -> None:
    name = await stage.ready(template)
    stage.traffic.routes = {}
    stage.traffic.work = {}
    stage.cluster.running = (Found(name, CHAT_1, 1.0), Found("stray", RevisionId(CHAT, "chat-00009"), 1.0))
    stage.loop = stage.new_loop()

    await stage.loop.adopt()
    await stage.loop.round()
    await stage.loop.round()

    assert [call for call in stage.cluster.calls if call[0] != "start"] == [("stop", "stray")]
    assert [replica.id for replica in stage.traffic.routes[CHAT].replicas] == [name]


async def test_what_ended_while_the_platform_was_away_is_no_crash_when_it_stopped(
    stage: Stage, template: Template
) -> None:
    name = await stage.ready(template)
    stage.cluster.say(name, ReplicaState.STOPPED, message="nobody asked for 30 s")
    stage.loop = stage.new_loop()

    await stage.loop.adopt()
    await stage.loop.round()

    assert stage.loop.known.memory[CHAT].state.back_off.failures == 0
    record = stage.stores.replicas.get(name)
    assert record is not None
    assert (record.state, record.message) == ("stopped", "nobody asked for 30 s")


async def test_a_replica_that_was_about_to_be_launched_is_no_crash(stage: Stage, template: Template) -> None:
    stage.deploy(template)
    await stage.loop.round()
    stage.stores.replicas.add(ReplicaRecord("chat-00001-never", CHAT, "chat-00001", stage.clock.now()))
    stage.loop = stage.new_loop()

    await stage.loop.adopt()
    stage.demand(queued=1)
    await stage.loop.round()

    assert [call for call, _ in stage.cluster.calls] == ["start"]
    assert stage.traffic.routes[CHAT].failure == ""


async def test_a_restart_goes_on_with_the_back_off(stage: Stage, template: Template) -> None:
    stage.deploy(template)
    await stage.loop.round()
    stage.demand(queued=1)
    for wait in (1.0, 2.0, 4.0):
        await stage.loop.round()
        stage.cluster.say(stage.cluster.only(), ReplicaState.FAILED, message="no memory")
        await stage.loop.round()
        stage.clock.time += wait
    stage.clock.time -= 1
    stage.loop = stage.new_loop()

    await stage.loop.adopt()
    await stage.loop.round()

    assert stage.loop.known.memory[CHAT].state.back_off.failures == 3
    assert stage.traffic.routes[CHAT].retry_after_seconds == 1.0
    assert stage.cluster.says == {}


def test_crashes_are_counted_back_to_the_last_replica_that_did_not_fail() -> None:
    def ended(state: str, at: float) -> ReplicaRecord:
        return ReplicaRecord("r", CHAT, "chat-00001", at - 1, state=state, message=str(at), ended_at=at)

    newest_first = [ended("failed", 90.0), ended("failed", 80.0), ended("stopped", 70.0), ended("failed", 60.0)]

    back_off = crashes_in_a_row(newest_first)
    assert not back_off.served
    assert crashes_in_a_row(newest_first, {"r"}).served
    assert (back_off.failures, back_off.retry_at, back_off.message) == (2, 92.0, "90.0")
    assert crashes_in_a_row([]).failures == 0


async def test_a_refused_caller_has_woken_the_function_all_the_same(stage: Stage, template: Template) -> None:
    stage.deploy(template)
    await stage.loop.round()

    stage.loop.wake(CHAT)
    await stage.loop.round()

    assert [call for call, _ in stage.cluster.calls] == ["start"]


async def test_replica_seconds_follow_the_states(stage: Stage, template: Template) -> None:
    stage.deploy(template, keep_alive_seconds=60.0)
    await stage.loop.round()
    stage.demand(queued=1)
    await stage.loop.round()
    name = stage.cluster.only()
    began = stage.clock.time
    stage.clock.time += 10
    stage.cluster.say(name, ReplicaState.READY)
    stage.demand(0, 1, **{name: 1})
    await stage.loop.round()
    stage.clock.time += 20
    stage.demand(0, 0, **{name: 0})
    await stage.loop.round()
    stage.clock.time += 30
    await stage.loop.round()

    parts = [(part.state, part.start - began, part.end - began) for part in stage.stores.replicas.intervals(CHAT)]
    assert parts == [("starting", 0.0, 10.0), ("serving", 10.0, 30.0), ("idle", 30.0, 60.0)]


async def test_the_same_decision_is_recorded_once(stage: Stage, template: Template) -> None:
    await stage.ready(template)
    before = stage.reasons()
    for _ in range(5):
        await stage.loop.round()

    assert stage.reasons() == before


async def test_every_recorded_decision_replays_from_its_inputs(stage: Stage, template: Template) -> None:
    await stage.ready(template, keep_alive_seconds=5.0, maximum=3)
    stage.demand(queued=9, in_flight=4)
    await stage.loop.round()
    stage.demand()
    stage.clock.time += 6
    await stage.loop.round()
    stage.clock.time += 61
    await stage.loop.round()

    records = stage.stores.records.decisions(CHAT)
    assert len({record.reason for record in records}) >= 3
    for record in records:
        again = replay(record.inputs)
        assert (again.desired, again.reason, again.sentence) == (record.desired, record.reason, record.sentence)


@pytest.mark.parametrize(
    ("namespace", "named"),
    [("team-a", "team-a/other"), ("team-b", "a function of another namespace")],
)
async def test_an_eviction_is_recorded_with_what_is_left_and_for_whom(
    stage: Stage, template: Template, namespace: str, named: str
) -> None:
    name = await stage.ready(replace(template, memory_bytes=2**40))
    other = FunctionId(namespace, "other")
    stage.functions.apply([Change(other, {}, Policy(), template)], stage.clock.now())
    stage.loop.changed()
    stage.demand()
    await stage.loop.round()
    stage.traffic.work[other] = Demand(1, 0, 1, stage.clock.now())

    await stage.loop.round()

    evicted = stage.stores.records.decisions(CHAT)[0]
    assert (evicted.reason, evicted.desired, evicted.revision) == ("evicted", 0, "chat-00001")
    assert evicted.sentence == f"idle, makes way for {named}"
    assert evicted.inputs == {
        "replica": name,
        "makes_way_for": named,
        "memory_bytes": 2**40,
        "device_bytes": 0,
    }


class TestWhenTheDatabaseFails:
    async def test_a_change_is_read_again_and_whoever_waits_for_it_is_told(
        self, stage: Stage, template: Template, database: Database
    ) -> None:
        await stage.loop.round()
        stage.deploy(template)
        waiting = asyncio.ensure_future(stage.loop.caught_up())
        await asyncio.sleep(0)
        with database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE revisions RENAME TO away")
        await stage.loop.round()
        assert not waiting.done()
        with database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE away RENAME TO revisions")

        await stage.loop.round()

        await waiting
        assert CHAT in stage.traffic.routes

    async def test_intervals_that_ended_are_written_later(
        self, stage: Stage, template: Template, database: Database
    ) -> None:
        name = await stage.ready(template)
        began = stage.clock.time
        stage.clock.time += 1
        stage.demand(0, 1, **{name: 1})
        with database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE replica_intervals RENAME TO away")
        await stage.loop.round()
        with database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE away RENAME TO replica_intervals")
        stage.clock.time += 1
        stage.demand()
        await stage.loop.round()

        parts = [(part.state, part.start - began, part.end - began) for part in stage.stores.replicas.intervals(CHAT)]
        assert ("idle", 0.0, 1.0) in parts
        assert ("serving", 1.0, 2.0) in parts


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_clock_that_is_set_keeps_the_books_and_ends_what_leaves(
    stage: Stage, template: Template, hours: int
) -> None:
    name = await stage.ready(template, keep_alive_seconds=1e6)
    stage.clock.set_by = hours * 3600.0
    stage.clock.time += 6
    await stage.loop.round()
    assert sum(part.end - part.start for part in stage.stores.replicas.intervals(CHAT)) == 6.0

    stage.functions.delete(CHAT, stage.clock.now())
    stage.demand(0, 1, **{name: 1})
    stage.loop.changed()
    await stage.loop.round()
    stage.clock.set_by = 0.0
    stage.clock.time += 31
    await stage.loop.round()

    assert stage.cluster.calls[-1] == ("stop", name)


async def test_the_end_asks_again_until_a_replica_has_heard(stage: Stage, template: Template) -> None:
    name = await stage.ready(template)
    stage.cluster.unheard_stops = 1

    await stage.loop.close(30.0)

    assert [call for call in stage.cluster.calls if call[0] == "stop"] == [("stop", name), ("stop", name)]
    assert stage.stores.replicas.live() == ()
