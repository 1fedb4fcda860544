"""The cold-start contract: what a caller sees and what is woken, freed and written while a function has no replica."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from pilotlight.activator.settings import Settings
from pilotlight.activator.values import FunctionId, StartProgress

if TYPE_CHECKING:
    import aiohttp
    from tests.activator.conftest import MakeRoute, ReadEvent, ReadRest, ScriptedEngine, Stage, WaitFor

CHAT = FunctionId("team-a", "chat")


async def test_a_held_stream_hears_of_the_start_then_gets_its_answer(
    stage: Stage, engine: ScriptedEngine, read_event: ReadEvent, read_rest: ReadRest
) -> None:
    async with asyncio.TaskGroup() as group:
        opened = group.create_task(stage.open(stream=True))
        await stage.held(1)
        stage.update(start=StartProgress("load", 43, 12.0, stage.clock.now()))
        stage.clock.advance(0.8)
    response = opened.result()
    assert response.status == 200
    assert response.headers["X-Pilotlight-Start"] == "cold"
    assert response.headers["X-Pilotlight-Revision"] == "chat-1"
    assert response.headers["X-Request-Id"].startswith("req-")
    assert await read_event(response) == ": loading weights 43% (eta 11s)"
    stage.clock.advance(5.0)
    assert await read_event(response) == ": loading weights 43% (eta 6s)"

    stage.clock.advance(4.2)
    stage.update(replicas=(engine.replica(),), start=None)
    call = await engine.call()
    await call.start()
    await call.tokens("Paris", [5], total=1)
    facts = await read_event(response)
    assert facts.startswith(": pilotlight ")
    told = json.loads(facts.removeprefix(": pilotlight "))
    assert told["start_ms"] == 10_000
    assert (told["queue_ms"], told["replica"], told["start"]) == (0, "r1", "cold")
    await call.done(total=1, cached=3)
    first, last = await read_rest(response)
    assert json.loads(first.removeprefix("data: "))["choices"][0]["text"] == "Paris"
    assert last == "data: [DONE]"

    row = await stage.row()
    assert (row.outcome, row.status, row.cold, row.replica) == ("ok", 200, True, "r1")
    assert (row.prompt_tokens, row.completion_tokens, row.cached_tokens) == (7, 1, 3)
    assert row.start_seconds == pytest.approx(10.0)
    assert row.queue_seconds == 0.0
    assert row.request == response.headers["X-Request-Id"]


async def test_a_stream_that_is_released_before_the_first_comment_gets_true_headers(
    stage: Stage, engine: ScriptedEngine, read_rest: ReadRest
) -> None:
    async with asyncio.TaskGroup() as group:
        opened = group.create_task(stage.open(stream=True))
        await stage.held(1)
        stage.clock.advance(0.5)
        stage.update(replicas=(engine.replica(),))
        call = await engine.call()
        await call.start()
        await call.tokens("a", [1], total=1)
    response = opened.result()
    assert response.headers["X-Pilotlight-Start-Ms"] == "500"
    assert response.headers["X-Pilotlight-Queue-Ms"] == "0"
    assert response.headers["X-Pilotlight-Replica"] == "r1"
    await call.done(total=1)
    assert not [event for event in await read_rest(response) if event.startswith(":")]


async def test_however_many_arrive_one_wake_is_sent(stage: Stage, engine: ScriptedEngine) -> None:
    async with asyncio.TaskGroup() as group:
        posts = [group.create_task(stage.status()) for _ in range(50)]
        await stage.held(50)
        assert stage.waker.woken == [CHAT]
        stage.update(replicas=(engine.replica(slots=50),))
        for _ in posts:
            call = await engine.call()
            await call.answer({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})
    assert [post.result() for post in posts] == [200] * 50
    assert stage.waker.woken == [CHAT]
    assert len(stage.meter.admissions) == len(stage.meter.rows) == 50


async def test_a_host_that_missed_the_wake_is_told_again(stage: Stage, wait_for: WaitFor) -> None:
    async with asyncio.TaskGroup() as group:
        post = group.create_task(stage.status())
        await stage.held(1)
        stage.clock.advance(5.0)
        await wait_for(lambda: len(stage.waker.woken) == 2, "a second wake")
        stage.apply()
        assert await post == 404


async def test_a_second_demand_after_an_empty_queue_wakes_again(stage: Stage) -> None:
    for expected in (1, 2):
        async with asyncio.TaskGroup() as group:
            post = group.create_task(stage.status())
            await stage.held(1)
            assert len(stage.waker.woken) == expected
            post.cancel()
        await stage.held(0)


async def test_a_client_that_leaves_while_held_frees_its_place_at_once(stage: Stage, wait_for: WaitFor) -> None:
    async with asyncio.TaskGroup() as group:
        post = group.create_task(stage.status(stream=True))
        await stage.held(1)
        post.cancel()
        await stage.held(0)
    await wait_for(lambda: len(stage.meter.rows) == 1, "its row")
    row = stage.meter.rows[0]
    assert (row.outcome, row.status, row.completion_tokens) == ("cancelled", 499, 0)


async def test_a_client_that_leaves_after_the_early_200_frees_its_place(stage: Stage, read_event: ReadEvent) -> None:
    async with asyncio.TaskGroup() as group:
        opened = group.create_task(stage.open(stream=True))
        await stage.held(1)
        stage.clock.advance(0.8)
    response = opened.result()
    await read_event(response)
    response.close()
    await stage.held(0)
    assert (await stage.row()).outcome == "cancelled"


async def test_the_place_of_one_who_left_goes_to_the_next(stage: Stage, engine: ScriptedEngine) -> None:
    async with asyncio.TaskGroup() as group:
        first = group.create_task(stage.status())
        await stage.held(1)
        second = group.create_task(stage.status())
        await stage.held(2)
        first.cancel()
        await stage.held(1)
        stage.update(replicas=(engine.replica(slots=1),))
        await (await engine.call()).answer({"usage": {}})
        assert await second == 200
    assert engine.pending == 0


async def test_requests_without_streaming_wait_for_a_true_status(stage: Stage, engine: ScriptedEngine) -> None:
    async with asyncio.TaskGroup() as group:
        post = group.create_task(stage.open())
        await stage.held(1)
        stage.clock.advance(30.0)
        stage.update(replicas=(engine.replica(),))
        await (await engine.call()).answer({"usage": {"prompt_tokens": 3, "completion_tokens": 4}})
    response = post.result()
    assert response.status == 200
    assert _facts(response) == {
        "revision": "chat-1",
        "start": "cold",
        "queue-ms": "0",
        "start-ms": "30000",
        "replica": "r1",
    }
    assert response.headers["X-Request-Id"] == stage.meter.rows[0].request
    row = await stage.row()
    assert (row.prompt_tokens, row.completion_tokens) == (3, 4)


def _facts(response: aiohttp.ClientResponse) -> dict[str, str]:
    prefix = "x-pilotlight-"
    told = {name.lower(): value for name, value in response.headers.items()}
    return {name.removeprefix(prefix): value for name, value in told.items() if name.startswith(prefix)}


async def test_the_opt_out_gets_no_comments_and_a_true_status(stage: Stage) -> None:
    async with asyncio.TaskGroup() as group:
        post = group.create_task(stage.open(stream=True, headers={"X-Pilotlight-Progress": "off"}))
        await stage.held(1)
        stage.clock.advance(100.0)
        stage.update(failure="the model's weights are gone", retry_after_seconds=9.5)
    response = post.result()
    assert response.status == 503
    assert _facts(response) == {"revision": "chat-1", "start": "cold", "queue-ms": "0", "start-ms": "100000"}
    assert response.headers["Retry-After"] == "10"
    assert "weights are gone" in (await response.json())["error"]["message"]


async def test_a_refusal_after_200_is_an_error_event_that_ends_the_stream(
    stage: Stage, read_event: ReadEvent, read_rest: ReadRest
) -> None:
    async with asyncio.TaskGroup() as group:
        opened = group.create_task(stage.open(stream=True))
        await stage.held(1)
        stage.clock.advance(0.8)
    response = opened.result()
    await read_event(response)
    stage.update(failure="out of memory", retry_after_seconds=30.0)
    (event,) = await read_rest(response)
    error = json.loads(event.removeprefix("data: "))["error"]
    assert (error["status"], error["retry_after"], error["code"]) == (503, 30, "function_failing")
    assert "out of memory" in error["message"]
    row = await stage.row()
    assert (row.outcome, row.status) == ("rejected", 503)


async def test_a_hold_ends_at_its_limit(stage: Stage) -> None:
    stage.update(hold_seconds=60.0)
    async with asyncio.TaskGroup() as group:
        post = group.create_task(stage.open())
        await stage.held(1)
        stage.clock.advance(60.0)
    response = post.result()
    assert response.status == 503
    assert response.headers["Retry-After"] == "20"
    assert (await response.json())["error"]["code"] == "deadline_exceeded"


@pytest.mark.parametrize(
    ("deadline", "status"),
    [
        pytest.param("30s", 200, id="later than the learned start"),
        pytest.param("10", 503, id="earlier than the learned start"),
        pytest.param("soon", 400, id="not a deadline"),
    ],
)
async def test_a_deadline_is_weighed_against_the_learned_start_at_once(
    stage: Stage, engine: ScriptedEngine, deadline: str, status: int
) -> None:
    async with asyncio.TaskGroup() as group:
        post = group.create_task(stage.open(headers={"X-Request-Deadline": deadline}))
        if status == 200:
            await stage.held(1)
            stage.update(replicas=(engine.replica(),))
            await (await engine.call()).answer({"usage": {}})
    response = post.result()
    assert response.status == status
    if status == 503:
        assert response.headers["Retry-After"] == "20"
        assert stage.waker.woken == [CHAT], "nobody would make the Retry-After true"


async def test_a_refusal_before_admission_has_the_facts_of_its_function_too(stage: Stage) -> None:
    stage.update(deadline_seconds=5.0)
    async with stage.post() as response:
        told = {name.lower(): value for name, value in response.headers.items() if name.lower().startswith("x-pilot")}
    assert told == {
        "x-pilotlight-revision": "chat-1",
        "x-pilotlight-start": "cold",
        "x-pilotlight-queue-ms": "0",
        "x-pilotlight-start-ms": "0",
    }


async def test_the_class_deadline_counts_where_the_request_brings_none(stage: Stage) -> None:
    stage.update(deadline_seconds=5.0)
    async with stage.post() as response:
        assert response.status == 503


async def test_a_function_that_fails_is_refused_with_its_reason(stage: Stage) -> None:
    stage.update(failure="the engine ended with status 1", retry_after_seconds=12.0)
    async with stage.post() as response:
        assert response.status == 503
        assert response.headers["Retry-After"] == "12"
        assert "the engine ended with status 1" in (await response.json())["error"]["message"]
    assert stage.waker.woken == []


async def test_a_deleted_function_refuses_what_it_held(stage: Stage) -> None:
    async with asyncio.TaskGroup() as group:
        post = group.create_task(stage.status())
        await stage.held(1)
        stage.apply()
    assert post.result() == 404


async def test_a_full_queue_refuses_with_a_computed_retry(stage: Stage) -> None:
    stage.update(queue_limit=1)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(stage.status())
        await stage.held(1)
        async with stage.post() as response:
            assert response.status == 429
            assert response.headers["Retry-After"] == "20"
            assert (await response.json())["error"]["type"] == "rate_limit_error"
        first.cancel()


class TestTotals:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(tick_seconds=0.005, queue_total=1)

    async def test_the_bound_over_all_functions_holds(self, stage: Stage, make_route: MakeRoute) -> None:
        other = FunctionId("team-a", "other")
        stage.apply(make_route(), make_route(other))
        async with asyncio.TaskGroup() as group:
            first = group.create_task(stage.status())
            await stage.held(1)
            async with stage.post(model="other") as response:
                assert response.status == 429
            first.cancel()


class TestMemoryBound:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(tick_seconds=0.005, held_bytes=10_000)

    async def test_held_bodies_are_bounded_in_bytes(self, stage: Stage) -> None:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(stage.status(prompt="x" * 6_000))
            await stage.held(1)
            async with stage.post(prompt="y" * 6_000) as response:
                assert response.status == 429
            first.cancel()
            await stage.held(0)
            second = group.create_task(stage.status(prompt="y" * 6_000))
            await stage.held(1)
            second.cancel()


async def test_demand_counts_what_waits_and_what_runs(stage: Stage, engine: ScriptedEngine) -> None:
    async with asyncio.TaskGroup() as group:
        posts = [group.create_task(stage.status()) for _ in range(3)]
        await stage.held(3)
        stage.update(replicas=(engine.replica(slots=2),))
        demand = stage.activator.demand()[CHAT]
        assert (demand.queued, demand.in_flight, demand.arrived_total) == (1, 2, 3)
        assert demand.per_replica == (("r1", 2),)
        assert demand.last_active == stage.clock.now()
        for _ in posts:
            await (await engine.call()).answer({"usage": {}})


async def test_a_bound_that_shrinks_evicts_nobody_and_holds_for_who_comes_next(
    stage: Stage, engine: ScriptedEngine
) -> None:
    stage.update(queue_limit=3)
    async with asyncio.TaskGroup() as group:
        posts = [group.create_task(stage.status()) for _ in range(3)]
        await stage.held(3)
        stage.update(queue_limit=1)
        assert stage.demand() == (3, 0)
        assert (await stage.error())[1]["code"] == "queue_full"
        stage.update(queue_limit=4)
        posts.append(group.create_task(stage.status()))
        await stage.held(4)
        stage.update(queue_limit=0, replicas=(engine.replica(slots=5),))
        posts.append(group.create_task(stage.status()))
        for _ in posts:
            call = await engine.call()
            await call.answer({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})
    assert [post.result() for post in posts] == [200] * 5
