"""What an engine or a client may not do for ever: answers without end, silence, taking nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

import pytest

from pilotlight.activator.settings import Settings
from pilotlight.activator.values import FunctionId

if TYPE_CHECKING:
    from tests.activator.conftest import Call, ScriptedEngine, Stage, WaitFor

CHAT = FunctionId("team-a", "chat")


class TestLargeAnswer:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(tick_seconds=0.005, answer_bytes=1000, event_bytes=1000)

    @pytest.mark.parametrize("stream", [True, False])
    async def test_it_is_the_requests_fault(self, stage: Stage, engine: ScriptedEngine, stream: bool) -> None:
        stage.update(replicas=(engine.replica(),))
        async with asyncio.TaskGroup() as group:
            post = group.create_task(stage.error(stream=stream))
            call = await engine.call()
            await call.start()
            await call.send(b"x" * 2000)
            status, error = await post
        assert (status, error["code"]) == (502, "answer_too_large")
        assert stage.waker.losses == []
        assert (await stage.row()).outcome == "failed"


class TestSilentEngine:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(tick_seconds=0.005, silence_seconds=0.05, answer_seconds=0.05)

    @pytest.mark.parametrize("stream", [True, False])
    async def test_it_is_not_asked_twice(
        self, stage: Stage, engine: ScriptedEngine, second_engine: ScriptedEngine, stream: bool
    ) -> None:
        stage.update(replicas=(engine.replica("r1", weight=2.0), second_engine.replica("r2")))
        async with asyncio.TaskGroup() as group:
            post = group.create_task(stage.error(stream=stream))
            call = await engine.call()
            status, error = await post
            await call.gone()
        assert (status, error["code"]) == (504, "engine_timeout")
        assert second_engine.pending == 0
        assert [replica for _, replica, _ in stage.waker.losses] == ["r1"]
        assert (await stage.row()).outcome == "failed"


class TestStalledClient:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(tick_seconds=0.005, stall_seconds=10.0)

    async def test_a_client_that_reads_nothing_loses_its_slot(
        self, stage: Stage, engine: ScriptedEngine, wait_for: WaitFor
    ) -> None:
        stage.update(replicas=(engine.replica(),))
        async with asyncio.TaskGroup() as group:
            opened = group.create_task(stage.open(stream=True))
            call = await engine.call()
            await call.start()
            await call.tokens("one", [1], total=1)
            response = await opened
            flood = group.create_task(_flood(call))
            await wait_for(lambda: _advanced(stage), "an end of the stall")
            flood.cancel()
        assert stage.meter.rows[0].outcome == "cancelled"
        response.close()

    async def test_a_client_that_does_not_take_the_end_loses_its_slot(
        self, stage: Stage, engine: ScriptedEngine, wait_for: WaitFor
    ) -> None:
        """More than sockets buffer, in one write: only the end of the answer waits for the client."""
        stage.update(replicas=(engine.replica(),))
        async with asyncio.TaskGroup() as group:
            opened = group.create_task(stage.open(stream=True))
            call = await engine.call()
            await call.start()
            choice = {"index": 0, "text": "x" * 15_000_000, "token_ids": [1]}
            await call.send(b"data: " + json.dumps({"choices": [choice]}).encode())
            await call.send(b"\n\ndata: [DONE]\n\n")
            await call.finish()
            response = await opened
            await wait_for(lambda: _advanced(stage), "an end of the stall")
        assert stage.demand() == (0, 0)
        assert (stage.meter.rows[0].outcome, stage.meter.rows[0].completion_tokens) == ("cancelled", 1)
        response.close()


async def _flood(call: Call) -> None:
    """More than sockets buffer."""
    total = 1
    with contextlib.suppress(ConnectionError):
        while True:
            total += 1
            await call.tokens("x" * 60_000, [1], total=total)


def _advanced(stage: Stage) -> bool:
    stage.clock.advance(1.0)
    return bool(stage.meter.rows)
