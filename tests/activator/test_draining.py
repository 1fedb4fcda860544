"""Shutting down: nothing new, what runs may finish, what cannot is told so."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.activator.conftest import ReadEvent, ReadRest, ScriptedEngine, Stage


async def test_a_draining_activator_refuses_and_finishes_what_runs(
    stage: Stage, engine: ScriptedEngine, read_rest: ReadRest
) -> None:
    stage.update(replicas=(engine.replica(),))
    async with asyncio.TaskGroup() as group:
        opened = group.create_task(stage.open(stream=True))
        call = await engine.call()
        await call.start()
        await call.tokens("one", [1], total=1)
        response = await opened
        drained = group.create_task(stage.activator.drain(60.0))
        await asyncio.sleep(0)
        async with stage.post() as refused:
            assert refused.status == 503
            assert refused.headers["Connection"] == "close"
            assert int(refused.headers["Retry-After"]) >= 1
        assert not drained.done()
        await call.done(total=1)
        assert await drained is True
    assert (await read_rest(response))[-1] == "data: [DONE]"
    assert [row.outcome for row in stage.meter.rows] == ["ok"]


async def test_what_does_not_finish_in_time_is_ended_with_an_error(
    stage: Stage, engine: ScriptedEngine, read_event: ReadEvent, read_rest: ReadRest
) -> None:
    stage.update(replicas=(engine.replica(slots=1),))
    async with asyncio.TaskGroup() as group:
        opened = group.create_task(stage.open(stream=True))
        call = await engine.call()
        await call.start()
        await call.tokens("one", [1, 2], total=2)
        response = await opened
        await read_event(response)
        held = group.create_task(stage.error())
        await stage.held(1)
        assert await stage.activator.drain(0.0) is False
        status, error = await held
    assert (status, error["code"]) == (503, "draining")
    (last,) = await read_rest(response)
    assert json.loads(last.removeprefix("data: "))["error"]["status"] == 503
    await call.gone()
    rows = {row.status: row for row in stage.meter.rows}
    assert {row.outcome for row in rows.values()} == {"failed"}
    assert max(row.completion_tokens for row in stage.meter.rows) == 2


async def test_what_is_held_is_served_while_draining(stage: Stage, engine: ScriptedEngine, read_rest: ReadRest) -> None:
    async with asyncio.TaskGroup() as group:
        held = group.create_task(stage.status())
        stream = group.create_task(stage.open(stream=True))
        await stage.held(2)
        drained = group.create_task(stage.activator.drain(60.0))
        await asyncio.sleep(0)
        assert await stage.status() == 503
        stage.clock.advance(1.0)
        response = await stream
        assert not drained.done()
        stage.update(replicas=(engine.replica(),))
        for _ in range(2):
            call = await engine.call()
            if call.body.get("stream"):
                await call.start()
                await call.tokens("one", [1], total=1)
                await call.done(total=1)
            else:
                await call.answer({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})
        assert await held == 200
        assert (await read_rest(response))[-1] == "data: [DONE]"
        assert await drained is True


async def test_in_the_grace_everything_is_served_and_connections_end_with_their_answers(
    stage: Stage, engine: ScriptedEngine
) -> None:
    stage.update(replicas=(engine.replica(),))
    drained = asyncio.create_task(stage.activator.drain(60.0, grace_seconds=3600.0))
    await asyncio.sleep(0)
    async with asyncio.TaskGroup() as group:
        opened = group.create_task(stage.open())
        await (await engine.call()).answer({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})
    assert (opened.result().status, opened.result().headers["Connection"]) == (200, "close")
    async with stage.client.get(f"{stage.url}/v1/models", headers={"Authorization": "Bearer pl-alice"}) as models:
        assert (models.status, models.headers["Connection"]) == (200, "close")
    async with stage.post("/nothing") as refused:
        assert (refused.status, refused.headers["Connection"]) == (404, "close")
    drained.cancel()
    await asyncio.gather(drained, return_exceptions=True)


async def test_after_the_grace_new_requests_are_refused(stage: Stage) -> None:
    assert await stage.activator.drain(60.0, grace_seconds=0.001) is True
    assert await stage.status() == 503


async def test_closing_ends_everything_and_twice_is_once(stage: Stage) -> None:
    async with asyncio.TaskGroup() as group:
        held = group.create_task(stage.status())
        await stage.held(1)
        await stage.activator.close()
        await stage.activator.close()
        assert await held == 503
