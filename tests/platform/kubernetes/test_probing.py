"""Asking pods for their status, on after they are ready where their counters are wanted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
from aiohttp import web

from pilotlight.platform.kubernetes.probing import Prober, Target
from pilotlight.runtime.codec import dump
from pilotlight.runtime.podspec import STATUS_PORT
from pilotlight.runtime.spec import EngineCounters, ReplicaState, ReplicaStatus

IP = "127.77.13.5"
"""Of loopback, so that the port is free whoever else tests."""
READY = ReplicaStatus("chat-1", "chat-00001", ReplicaState.READY, counters=EngineCounters(1.0, 1, 1))


class Pod:
    """Answers as a supervisor does."""

    def __init__(self) -> None:
        self.status = READY
        self.asked = 0

    async def answer(self, request: web.Request) -> web.Response:
        assert request.headers["authorization"] == "Bearer engine-key"
        self.asked += 1
        return web.Response(body=dump(self.status))


@pytest.fixture
async def pod() -> AsyncIterator[Pod]:
    made, app = Pod(), web.Application()
    app.router.add_get("/status", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, IP, STATUS_PORT).start()
    yield made
    await runner.cleanup()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - another task says when
            await asyncio.sleep(0.01)


async def test_what_a_ready_pods_engine_counts_stays_current(pod: Pod) -> None:
    news: list[str] = []
    prober = Prober(lambda: news.append("changed"), again_seconds=0.01)
    prober.aim({"chat-1": Target(IP, "engine-key")})
    await until(lambda: prober.said.get("chat-1") == READY)
    pod.status = replace(READY, counters=EngineCounters(6.0, 6, 9))
    await until(lambda: prober.said["chat-1"] == pod.status)
    await prober.close()

    assert news == ["changed"]
