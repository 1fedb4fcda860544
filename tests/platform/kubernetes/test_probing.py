"""Asking pods for their status: often while a start waits for it, seldom where their counters are wanted, else not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pilotlight.platform.kubernetes.probing import Prober, Target
from pilotlight.runtime.spec import EngineCounters, ReplicaState, ReplicaStatus

if TYPE_CHECKING:
    from tests.platform.kubernetes.conftest import Supervisor

    Make = Callable[..., Awaitable[Supervisor]]

IP, OTHER_IP = "127.77.13.5", "127.77.13.6"
READY = ReplicaStatus("chat-1", "chat-00001", ReplicaState.READY, counters=EngineCounters(1.0, 1, 1))
STARTING = ReplicaStatus("chat-1", "chat-00001", ReplicaState.STARTING)
NEVER = 1e6


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - another task says when
            await asyncio.sleep(0.01)


async def test_what_a_ready_pods_engine_counts_stays_current(supervisor: Make) -> None:
    news: list[str] = []
    pod = await supervisor(IP, READY)
    prober = Prober(lambda: news.append("changed"), again_seconds=0.01)
    prober.aim({"chat-1": Target(IP, "engine-key")})
    await until(lambda: prober.said.get("chat-1") == READY)
    pod.status = replace(READY, counters=EngineCounters(6.0, 6, 9))
    await until(lambda: prober.said["chat-1"] == pod.status)
    await prober.close()

    assert news == ["changed"]


@pytest.mark.parametrize("refuses", [False, True], ids=["as before", "without an answer"])
@pytest.mark.parametrize("again_seconds", [NEVER, None])
async def test_no_pod_that_kubernetes_calls_ready_is_asked_as_often_as_one_that_starts(
    supervisor: Make, refuses: bool, again_seconds: float | None
) -> None:
    pod, starts = await supervisor(IP, READY), await supervisor(OTHER_IP, STARTING)
    prober = Prober(lambda: None, again_seconds)
    prober.aim({"chat-1": Target(IP, "engine-key")})
    await until(lambda: "chat-1" in prober.said)
    pod.refuses, pod.asked = refuses, 0

    prober.aim({"chat-1": Target(IP, "engine-key", ready=True), "chat-2": Target(OTHER_IP, "engine-key")})
    await until(lambda: starts.asked >= 3)
    await prober.close()

    assert pod.asked == 1
    assert prober.said["chat-1"] == READY


async def test_an_engine_that_starts_anew_in_its_pod_is_followed_as_closely_as_the_first(supervisor: Make) -> None:
    said: list[ReplicaState] = []
    pod = await supervisor(IP, READY)
    prober = Prober(lambda: said.append(prober.said["chat-1"].state), NEVER)
    prober.aim({"chat-1": Target(IP, "engine-key", ready=True)})
    await until(lambda: said == [ReplicaState.READY])
    pod.status = STARTING
    prober.aim({"chat-1": Target(IP, "engine-key")})
    await until(lambda: len(said) == 2)
    pod.status = READY
    await until(lambda: len(said) == 3)
    await prober.close()

    assert said == [ReplicaState.READY, ReplicaState.STARTING, ReplicaState.READY]


async def test_one_that_kubernetes_has_not_called_ready_yet_may_start_anew_too(supervisor: Make) -> None:
    said: list[ReplicaState] = []
    pod = await supervisor(IP, READY)
    prober = Prober(lambda: said.append(prober.said["chat-1"].state), again_seconds=0.01)
    prober.aim({"chat-1": Target(IP, "engine-key")})
    await until(lambda: said == [ReplicaState.READY])
    pod.status = STARTING
    await until(lambda: len(said) == 2)
    await prober.close()

    assert said == [ReplicaState.READY, ReplicaState.STARTING]
