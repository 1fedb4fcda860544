"""Behind a service that starts replicas by itself: what its callers hear meanwhile, and how its own refusals read."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from pilotlight.activator.settings import Settings
from pilotlight.activator.values import FunctionId

if TYPE_CHECKING:
    from tests.activator.conftest import MakeRoute, ReadEvent, ReadRest, ScriptedEngine, Stage, WaitFor

WAITING = ": waiting for a replica"
ANSWER = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}


@pytest.fixture
def behind(stage: Stage, engine: ScriptedEngine) -> Stage:
    """The function behind a service; nothing else is known of it."""
    stage.update(replicas=(engine.replica("service", via_service=True, slots=1000),), hold_seconds=900.0)
    return stage


async def test_a_stream_hears_from_us_until_an_engine_has_it(
    behind: Stage, engine: ScriptedEngine, read_event: ReadEvent, read_rest: ReadRest
) -> None:
    async with asyncio.TaskGroup() as group:
        opened = group.create_task(behind.open(stream=True))
        call = await engine.call()
        assert call.headers["authorization"] == "Bearer engine-secret"
        assert behind.demand() == (0, 1)
        behind.clock.advance(1.0)
    response = opened.result()
    assert (response.status, response.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
    assert response.headers["X-Pilotlight-Start"] == "unknown"
    assert await read_event(response) == WAITING
    behind.clock.advance(5.0)
    assert await read_event(response) == WAITING
    behind.clock.advance(4.0)
    await call.start()
    await call.tokens("Paris", [5], total=1)
    told = json.loads((await read_event(response)).removeprefix(": pilotlight "))
    assert (told["queue_ms"], told["start_ms"], told["start"]) == (10_000, 0, "unknown")
    behind.clock.advance(7.0)
    await call.done(total=1)
    assert [event for event in await read_rest(response) if event.startswith(":")] == []
    row = await behind.row()
    assert (row.outcome, row.replica, row.cold) == ("ok", "service", False)
    assert (row.queue_seconds, row.start_seconds, row.serve_seconds) == (10.0, 0.0, 7.0)
    assert row.ttft_seconds == 10.0
    assert behind.waker.woken == [], "the service wakes its replicas itself"


async def test_a_stream_that_is_answered_at_once_has_true_headers(
    behind: Stage, engine: ScriptedEngine, read_rest: ReadRest
) -> None:
    async with asyncio.TaskGroup() as group:
        opened = group.create_task(behind.open(stream=True))
        call = await engine.call()
        await call.start()
        await call.tokens("a", [1], total=1)
    assert opened.result().headers["X-Pilotlight-Replica"] == "service"
    await call.done(total=1)
    assert not [event for event in await read_rest(opened.result()) if event.startswith(":")]


@pytest.mark.parametrize("wish", [{"stream": True, "off": True}, {"stream": False, "off": False}], ids=["off", "whole"])
async def test_whoever_wants_no_comments_gets_a_true_status_at_the_end(
    behind: Stage, engine: ScriptedEngine, wait_for: WaitFor, wish: dict[str, bool]
) -> None:
    headers = {"X-Pilotlight-Progress": "off"} if wish["off"] else {}
    async with asyncio.TaskGroup() as group:
        told = group.create_task(behind.error(headers=headers, stream=wish["stream"]))
        call = await engine.call()
        ticks = len(behind.meter.checkpoints)
        behind.clock.advance(60.0)
        await wait_for(lambda: len(behind.meter.checkpoints) > ticks, "a tick")
        await call.answer({"error": {"message": "no", "code": 400}}, 400)
    assert told.result()[0] == 400


@pytest.mark.parametrize(
    ("status", "text", "told", "code", "retries"),
    [
        (503, "pending request queue full\n", 429, "queue_full", True),
        (503, "activator overload\n", 503, "deadline_exceeded", True),
        (504, "activator request timeout", 504, "engine_timeout", False),
        (503, '{"error": {"message": "The engine is paused.", "code": 503}}', 503, "engine_error", True),
    ],
)
async def test_a_refusal_of_the_proxy_is_told_as_ours_and_an_engines_as_its_own(
    behind: Stage, engine: ScriptedEngine, status: int, text: str, told: int, code: str, *, retries: bool
) -> None:
    async with asyncio.TaskGroup() as group:
        opened = group.create_task(behind.open())
        call = await engine.call()
        await call.start(status, "text/plain")
        await call.send(text.encode())
        await call.finish()
    response = opened.result()
    assert (response.status, (await response.json())["error"]["code"]) == (told, code)
    assert ("Retry-After" in response.headers) is retries


async def test_a_refusal_after_the_first_comment_is_the_streams_last_event(
    behind: Stage, engine: ScriptedEngine, read_event: ReadEvent, read_rest: ReadRest
) -> None:
    async with asyncio.TaskGroup() as group:
        opened = group.create_task(behind.open(stream=True))
        call = await engine.call()
        behind.clock.advance(1.0)
        assert await read_event(await opened) == WAITING
        await call.start(503, "text/plain")
        await call.send(b"pending request queue full")
        await call.finish()
    (last,) = await read_rest(opened.result())
    error = json.loads(last.removeprefix("data: "))["error"]
    assert (error["status"], error["code"]) == (429, "queue_full")
    assert error["retry_after"] >= 1


@pytest.mark.parametrize("streams", [True, False])
async def test_a_proxy_that_finds_no_one_behind_it_is_asked_again(
    behind: Stage, engine: ScriptedEngine, read_rest: ReadRest, *, streams: bool
) -> None:
    async with asyncio.TaskGroup() as group:
        opened = group.create_task(behind.open(stream=streams))
        call = await engine.call()
        await call.start(502, "text/plain")
        await call.send(b"dial tcp 127.0.0.1:8080: connect: connection refused")
        await call.finish()
        await behind.held(1)
        behind.clock.advance(0.6)
        call = await engine.call()
        if streams:
            await call.start()
            await call.tokens("a", [1], total=1)
            await call.done(total=1)
        else:
            await call.answer(ANSWER)
    assert opened.result().status == 200
    await read_rest(opened.result())
    assert [loss[1] for loss in behind.waker.losses] == ["service"]


async def test_a_stream_waits_no_longer_than_it_may(
    behind: Stage, engine: ScriptedEngine, read_event: ReadEvent, read_rest: ReadRest
) -> None:
    async with asyncio.TaskGroup() as group:
        opened = group.create_task(behind.open(stream=True, headers={"X-Request-Deadline": "30s"}))
        call = await engine.call()
        behind.clock.advance(29.0)
        response = await opened
        assert await read_event(response) == WAITING
        behind.clock.advance(2.0)
        (last,) = await read_rest(response)
        await call.gone()
    error = json.loads(last.removeprefix("data: "))["error"]
    assert (error["status"], error["code"]) == (503, "deadline_exceeded")
    row = await behind.row()
    assert (row.outcome, row.serve_seconds, row.queue_seconds) == ("rejected", 0.0, 31.0)


async def test_once_an_engine_has_it_the_wait_is_over(
    behind: Stage, engine: ScriptedEngine, read_rest: ReadRest, wait_for: WaitFor
) -> None:
    async with asyncio.TaskGroup() as group:
        opened = group.create_task(behind.open(stream=True))
        call = await engine.call()
        await call.start()
        await call.tokens("a", [1], total=1)
        response = await opened
        behind.clock.advance(1000.0)
        ticks = len(behind.meter.checkpoints)
        await wait_for(lambda: len(behind.meter.checkpoints) > ticks, "a tick")
        await call.done(total=1)
    assert (await read_rest(response))[-1] == "data: [DONE]"


async def test_a_client_that_leaves_ends_its_request_behind_the_service(
    behind: Stage, engine: ScriptedEngine, read_event: ReadEvent
) -> None:
    async with asyncio.TaskGroup() as group:
        opened = group.create_task(behind.open(stream=True))
        call = await engine.call()
        behind.clock.advance(1.0)
        response = await opened
        await read_event(response)
        response.close()
        await call.gone()
    row = await behind.row()
    assert (row.outcome, row.status) == ("cancelled", 499)


class TestSilence:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(tick_seconds=0.005, silence_seconds=0.05, answer_seconds=0.05)

    @pytest.mark.parametrize("streams", [True, False])
    async def test_behind_a_service_it_is_no_failure_while_a_replica_may_be_starting(
        self,
        behind: Stage,
        engine: ScriptedEngine,
        second_engine: ScriptedEngine,
        make_route: MakeRoute,
        *,
        streams: bool,
    ) -> None:
        behind.apply(
            behind.routes[FunctionId("team-a", "chat")],
            make_route(FunctionId("team-a", "direct"), replicas=(second_engine.replica(),)),
        )
        async with asyncio.TaskGroup() as group:
            post = group.create_task(behind.status(stream=streams))
            call = await engine.call()
            silent = {"model": "direct", "prompt": "hello", "stream": streams}
            assert await behind.status(json=silent) == 504, "a replica itself may not be silent for as long"
            if streams:
                await call.start()
                await call.tokens("a", [1], total=1)
                await call.done(total=1)
            else:
                await call.answer(ANSWER)
            assert await post == 200
