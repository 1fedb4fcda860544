"""Traffic over several revisions: each has its queue, its start and its part of the demand."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from pilotlight.activator.functions import FunctionState
from pilotlight.activator.traffic import Address, HostRule, Split
from pilotlight.activator.values import FunctionId, RevisionDemand, RevisionFacts, StartProgress

if TYPE_CHECKING:
    from tests.activator.conftest import MakeRoute, ReadEvent, ScriptedEngine, Stage

CHAT = FunctionId("team-a", "chat")
HALF = (Split("chat-1", 50), Split("chat-2", 50))
FIRST, SECOND = {"Host": "first-chat.team-a"}, {"Host": "second-chat.team-a"}
TAGS = (
    HostRule(("first-chat.team-a",), (Split("chat-1", 100),)),
    HostRule(("second-chat.team-a",), (Split("chat-2", 100),)),
)
ANSWER = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}


def parts(stage: Stage) -> dict[str, tuple[int, int]]:
    """Queued and in flight of the revisions that have work in hand."""
    demand = stage.activator.demand()[CHAT]
    assert demand.queued == sum(part.queued for part in demand.per_revision)
    assert demand.in_flight == sum(part.in_flight for part in demand.per_revision)
    return {
        part.revision: (part.queued, part.in_flight) for part in demand.per_revision if part.queued or part.in_flight
    }


def facts(**changes: object) -> RevisionFacts:
    return RevisionFacts("chat-2", "generate", "served-two", context=500, tokenizer=None, **changes)  # type: ignore[arg-type]


async def test_each_request_waits_for_the_revision_of_its_id(stage: Stage, make_route: MakeRoute) -> None:
    route = make_route(splits=HALF)
    stage.apply(route)
    async with asyncio.TaskGroup() as group:
        posts = [group.create_task(stage.status()) for _ in range(40)]
        await stage.held(40)
        expected = Counter(route.revision_of(usage.request) for usage in stage.meter.admissions)
        assert len(expected) == 2, "forty ids on one side would be a miracle"
        assert Counter(usage.revision for usage in stage.meter.admissions) == expected
        assert {revision: queued for revision, (queued, _) in parts(stage).items()} == expected
        assert stage.waker.woken == [CHAT, CHAT], "once for each revision"
        stage.apply()
        assert {await post for post in posts} == {404}
    assert Counter(row.revision for row in stage.meter.rows) == expected


async def test_a_replica_gets_only_its_own_revisions_requests(
    stage: Stage, engine: ScriptedEngine, second_engine: ScriptedEngine
) -> None:
    stage.update(hosts=TAGS, replicas=(engine.replica("a"),))
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(stage.status(headers=SECOND))
        await stage.held(1)
        assert stage.waker.woken == [CHAT], "the other revision's replica is of no use to it"
        served = group.create_task(stage.status(headers=FIRST))
        await (await engine.call()).answer(ANSWER)
        assert await served == 200
        assert parts(stage) == {"chat-2": (1, 0)}
        stage.update(replicas=(engine.replica("a"), second_engine.replica("b", revision="chat-2")))
        call = await second_engine.call()
        assert parts(stage) == {"chat-2": (0, 1)}
        await call.answer(ANSWER)
        assert await waiting == 200
    assert [(row.revision, row.replica) for row in stage.meter.rows] == [("chat-1", "a"), ("chat-2", "b")]


async def test_the_revisions_own_facts_count(stage: Stage, engine: ScriptedEngine, read_event: ReadEvent) -> None:
    stage.update(
        hosts=TAGS,
        revisions=(facts(start=StartProgress("fetch", 5, 90.0, 0.0)),),
        replicas=(engine.replica("a"),),
    )
    assert (await stage.error(headers=SECOND, json={"prompt": "a", "max_tokens": 700}))[0] == 400
    async with asyncio.TaskGroup() as group:
        opened = group.create_task(stage.open(headers=SECOND, stream=True))
        await stage.held(1)
        stage.clock.advance(1.0)
        response = await opened
        assert response.headers["X-Pilotlight-Revision"] == "chat-2"
        assert response.headers["X-Pilotlight-Start"] == "cold"
        assert await read_event(response) == ": fetching weights 5% (eta 89s)"
        stage.update(revisions=(facts(),), replicas=(engine.replica("b", revision="chat-2"),))
        call = await engine.call()
        assert call.body["model"] == "served-two"
        call.die()
        stage.apply()


async def test_one_revision_that_cannot_start_takes_nothing_from_the_other(
    stage: Stage, engine: ScriptedEngine
) -> None:
    stage.update(hosts=TAGS, revisions=(facts(failure="no memory", retry_after_seconds=9.0),))
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(stage.status(headers=FIRST))
        await stage.held(1)
        status, error = await stage.error(headers=SECOND)
        assert (status, error["code"]) == (503, "function_failing")
        stage.update(replicas=(engine.replica(),))
        await (await engine.call()).answer(ANSWER)
        assert await waiting == 200


async def test_the_queue_bound_is_the_functions(stage: Stage) -> None:
    stage.update(hosts=TAGS, queue_limit=2)
    async with asyncio.TaskGroup() as group:
        posts = [group.create_task(stage.status(headers=headers)) for headers in (FIRST, SECOND)]
        await stage.held(2)
        for headers in (FIRST, SECOND):
            assert (await stage.error(headers=headers))[1]["code"] == "queue_full"
        stage.apply()
        assert {await post for post in posts} == {404}


@pytest.mark.parametrize("slots", [1, 8])
async def test_what_waits_follows_the_traffic_in_its_order_and_keeps_its_wait(
    stage: Stage, engine: ScriptedEngine, slots: int
) -> None:
    stage.update(splits=HALF)
    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(stage.status(json={"model": "chat", "prompt": f"{number}"}))
            await stage.held(number + 1)
            stage.clock.advance(1.0)
        stage.update(splits=(Split("chat-3", 100),))
        assert parts(stage) == {"chat-3": (8, 0)}
        stage.clock.advance(2.0)
        stage.update(replicas=(engine.replica(revision="chat-3", slots=slots),))
        calls = []
        for _ in range(8):
            calls.append(await engine.call())
            if slots == 1:
                await calls[-1].answer(ANSWER)
        if slots > 1:
            for call in calls:
                await call.answer(ANSWER)
    if slots == 1:
        assert [call.body["prompt"] for call in calls] == [f"{number}" for number in range(8)]
    rows = sorted(stage.meter.rows, key=lambda row: row.admitted_at)
    assert {row.revision for row in rows} == {"chat-3"}
    assert [row.start_seconds for row in rows] == [pytest.approx(10.0 - number) for number in range(8)]


async def test_a_rollout_moves_what_waits_and_lets_run_what_runs(
    stage: Stage, engine: ScriptedEngine, second_engine: ScriptedEngine
) -> None:
    stage.update(replicas=(engine.replica("old", slots=1),))
    async with asyncio.TaskGroup() as group:
        running = group.create_task(stage.status())
        call = await engine.call()
        waiting = group.create_task(stage.status())
        await stage.held(1)
        old = engine.replica("old", slots=1, accepting=False)
        stage.update(revision="chat-2", replicas=(old,))
        assert parts(stage) == {"chat-1": (0, 1), "chat-2": (1, 0)}
        await call.answer(ANSWER)
        assert await running == 200
        stage.update(replicas=(old, second_engine.replica("new", revision="chat-2")))
        await (await second_engine.call()).answer(ANSWER)
        assert await waiting == 200
    stage.update(replicas=(second_engine.replica("new", revision="chat-2"),))
    assert stage.activator.demand()[CHAT].per_replica == (("new", 0),), "nothing is left of the old revision"


async def test_a_request_whose_replica_dies_goes_to_the_revision_that_has_the_traffic_now(
    stage: Stage, engine: ScriptedEngine, second_engine: ScriptedEngine
) -> None:
    stage.update(replicas=(engine.replica("old"),))
    async with asyncio.TaskGroup() as group:
        post = group.create_task(stage.status())
        call = await engine.call()
        stage.update(revision="chat-2", replicas=(second_engine.replica("new", revision="chat-2"),))
        call.die()
        await (await second_engine.call()).answer(ANSWER)
        assert await post == 200
    (row,) = stage.meter.rows
    assert (row.revision, row.replica) == ("chat-2", "new")


async def test_moving_is_a_change_of_the_demand(stage: Stage) -> None:
    async with asyncio.TaskGroup() as group:
        post = group.create_task(stage.status())
        await stage.held(1)
        stage.activator.changes()
        stage.update(revision="chat-2")
        (changed,) = stage.activator.changes().values()
        assert changed is not None
        assert changed.per_revision == (RevisionDemand("chat-2", 1, 0),)
        stage.apply()
        assert await post == 404


async def test_a_route_that_was_applied_before_is_no_news(stage: Stage, read_event: ReadEvent) -> None:
    async with asyncio.TaskGroup() as group:
        opened = group.create_task(stage.open(stream=True))
        await stage.held(1)
        stage.update(start=StartProgress("load", None, 12.0, 0.0))
        stage.clock.advance(2.0)
        stage.activator.apply(stage.routes)
        response = await opened
        assert await read_event(response) == ": loading weights (eta 10s)"
        stage.apply()


def test_each_revision_remembers_its_own_last_request(make_route: MakeRoute) -> None:
    function = FunctionState(make_route(hosts=TAGS), 0.0)
    for moment, host in ((10.0, "first-chat.team-a"), (20.0, "second-chat.team-a")):
        function.arrival("id", Address(host), moment)

    demand = function.demand()

    assert demand.per_revision == (RevisionDemand("chat-1", 0, 0, 10.0), RevisionDemand("chat-2", 0, 0, 20.0))
    assert (demand.arrived_total, demand.last_active) == (2, 20.0)


def test_a_revision_without_traffic_and_replicas_is_forgotten(make_route: MakeRoute) -> None:
    function = FunctionState(make_route(hosts=TAGS), 0.0)
    for number in range(3, 6):
        function.update(make_route(revision=f"chat-{number}", splits=HALF), float(number))
    assert {state.route.revision for state in function.revisions()} == {"chat-1", "chat-2", "chat-5"}
