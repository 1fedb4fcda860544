"""A supervisor's whole life as a process, with the simulated engine: up, asked, drained, orphaned, killed, failed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path

import pytest

from pilotlight.runtime import client, guard
from pilotlight.runtime.spec import EngineSpec, Phase, ReplicaSpec, ReplicaState, ReplicaStatus

Processes = Callable[[], set[int]]


class Supervised:
    """One replica folder and the supervisor in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pid = 0

    def spec(self, **options: object) -> ReplicaSpec:
        return ReplicaSpec(
            replica="chat-1",
            function="team-a/chat",
            revision="rev-1",
            task="generate",
            store="file:///nowhere",
            model="",
            served_names=("chat",),
            engine=EngineSpec("simulated", {"simulated_time_scale": 1.0, **options}, key="engine-secret"),
            cache_folder=str(self.folder / "cache"),
            created_at=time.time(),
        )

    def launch(self, spec: ReplicaSpec) -> None:
        self.pid = client.launch(self.folder, spec)

    async def reach(self, *states: ReplicaState) -> ReplicaStatus:
        """Wait for one of the states; the status then."""
        async with asyncio.timeout(60):
            while True:
                found = await client.status(self.folder)
                if found is not None and found.state in states:
                    return found
                assert client.alive(self.folder, self.pid), self.log()
                await asyncio.sleep(0.02)

    async def until(self, condition: Callable[[ReplicaStatus], bool]) -> None:
        """Wait until what it says of itself is so."""
        async with asyncio.timeout(60):
            while (found := await client.status(self.folder)) is None or not condition(found):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def ended(self) -> ReplicaStatus:
        """Wait for the supervisor's end; its last word."""
        async with asyncio.timeout(60):
            while client.alive(self.folder, self.pid):  # noqa: ASYNC110  another process says when
                await asyncio.sleep(0.02)
        found = client.last_status(self.folder)
        assert found is not None
        return found

    def log(self) -> str:
        return (self.folder / client.LOG_FILE).read_text()


@pytest.fixture
async def supervised(tmp_path: Path) -> AsyncIterator[Supervised]:
    guard.become_subreaper()
    one = Supervised(tmp_path / ("long-" * 40 + "name") / "replica")  # longer than a socket's address may be
    yield one
    if one.pid and client.alive(one.folder, one.pid):
        await client.stop(one.folder)
        await one.ended()
    guard.reap()


def _arguments(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode()


def _complete(endpoint: str, key: str = "engine-secret", tokens: int = 4, path: str = "/v1/completions") -> bytes:
    body = {"model": "chat", "prompt": "hello", "max_tokens": tokens, "ignore_eos": True, "stream": True}
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    request = urllib.request.Request(endpoint + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        data: bytes = answer.read()
        return data


async def test_a_replica_goes_through_all_phases_and_answers(supervised: Supervised, processes: Processes) -> None:
    supervised.launch(supervised.spec(simulated_load_seconds=0.2))
    status = await supervised.reach(ReplicaState.READY)
    assert [report.name for report in status.phases] == list(Phase)
    assert all(report.end is not None and report.end >= report.start for report in status.phases)
    assert status.supervisor_pid == supervised.pid
    assert b"data: [DONE]" in await asyncio.to_thread(_complete, status.endpoint)
    assert await client.drain(supervised.folder)
    assert (await supervised.ended()).state is ReplicaState.STOPPED
    guard.reap()
    assert processes() == set()


async def test_what_the_supervisor_writes_is_readable_by_its_owner_alone(supervised: Supervised) -> None:
    supervised.launch(supervised.spec())
    await supervised.reach(ReplicaState.READY)
    for name in ("spec.json", "status.json", "control.sock", "engine.log", "supervisor.log"):
        assert stat.S_IMODE((supervised.folder / name).stat().st_mode) == 0o600, name
    for path in ("status.json", "supervisor.log", "engine.log"):
        assert "engine-secret" not in (supervised.folder / path).read_text()
    for pid in guard.descendants(supervised.pid) | {supervised.pid}:
        assert "engine-secret" not in _arguments(pid)


async def test_a_drain_lets_the_running_stream_finish(supervised: Supervised) -> None:
    supervised.launch(supervised.spec(simulated_decode_base_seconds=0.05))
    status = await supervised.reach(ReplicaState.READY)
    stream = asyncio.create_task(asyncio.to_thread(_complete, status.endpoint, tokens=40))
    await supervised.until(lambda status: bool(status.running))
    os.kill(supervised.pid, signal.SIGTERM)
    assert (await supervised.reach(ReplicaState.DRAINING)).message == "drained by a signal"
    data = await stream
    assert data.count(b"data: {") >= 40
    assert data.rstrip().endswith(b"data: [DONE]")
    assert (await supervised.ended()).state is ReplicaState.STOPPED


async def test_a_drain_ends_at_its_limit_and_a_second_signal_ends_it_now(supervised: Supervised) -> None:
    supervised.launch(replace(supervised.spec(simulated_decode_base_seconds=3600.0), drain_seconds=600.0))
    status = await supervised.reach(ReplicaState.READY)
    stream = asyncio.create_task(asyncio.to_thread(_complete, status.endpoint))
    await supervised.until(lambda status: bool(status.running))
    os.kill(supervised.pid, signal.SIGTERM)
    await supervised.reach(ReplicaState.DRAINING)
    os.kill(supervised.pid, signal.SIGTERM)
    assert (await supervised.ended()).state is ReplicaState.STOPPED
    with pytest.raises((OSError, HTTPException)):
        await stream


async def test_a_stop_during_the_start_ends_it_at_once(supervised: Supervised, processes: Processes) -> None:
    supervised.launch(supervised.spec(simulated_load_seconds=3600.0))
    await supervised.until(lambda status: status.phases[-1].name is Phase.LOAD)
    assert await client.stop(supervised.folder)
    assert (await supervised.ended()).state is ReplicaState.STOPPED
    assert processes() == set()


async def test_an_orphan_ends_itself(supervised: Supervised) -> None:
    supervised.launch(replace(supervised.spec(), orphan_seconds=1.0))
    ended = await supervised.ended()
    assert ended.state is ReplicaState.STOPPED
    assert ended.message.startswith("nobody asked for its status")


async def test_a_failed_start_tells_why_and_keeps_the_last_lines(supervised: Supervised, processes: Processes) -> None:
    supervised.launch(supervised.spec(simulated_fail_phase="load", simulated_fail_message="the weights are odd"))
    status = await supervised.reach(ReplicaState.FAILED)
    assert status.message == "the weights are odd"
    assert any("the weights are odd" in line for line in status.log_tail)
    assert status.phases[-1].name is Phase.LOAD
    assert await client.stop(supervised.folder)  # it need not linger any more
    assert (await supervised.ended()).message == "the weights are odd"
    assert processes() == set()


async def test_a_start_that_takes_too_long_is_failed_with_its_phase(supervised: Supervised) -> None:
    supervised.launch(replace(supervised.spec(simulated_load_seconds=3600.0), start_seconds=1.5))
    status = await supervised.reach(ReplicaState.FAILED)
    assert status.message == "the start took longer than 2 s, and was in phase load then"


async def test_options_that_the_engine_refuses_fail_the_start_by_name(supervised: Supervised) -> None:
    supervised.launch(supervised.spec(simulated_lod_seconds=1))
    assert "simulated_lod_seconds" in (await supervised.reach(ReplicaState.FAILED)).message


async def test_a_killed_engine_fails_the_replica_and_leaves_nothing(
    supervised: Supervised, processes: Processes
) -> None:
    supervised.launch(supervised.spec())
    status = await supervised.reach(ReplicaState.READY)
    os.kill(status.engine_pid, signal.SIGKILL)
    failed = await supervised.reach(ReplicaState.FAILED)
    assert failed.message.startswith("the engine died while it served")
    await client.stop(supervised.folder)
    await supervised.ended()
    assert processes() == set()


async def test_a_killed_supervisor_leaves_nothing_and_is_told_failed(
    supervised: Supervised, processes: Processes, until: Callable[[Callable[[], bool], str], None]
) -> None:
    supervised.launch(supervised.spec())
    await supervised.reach(ReplicaState.READY)
    os.kill(supervised.pid, signal.SIGKILL)
    ended = await supervised.ended()
    assert (ended.state, ended.message) == (ReplicaState.FAILED, "its supervisor died")
    until(lambda: not guard.reap() and not processes(), "the end of all processes")


async def test_a_folder_has_one_supervisor(supervised: Supervised) -> None:
    supervised.launch(supervised.spec())
    await supervised.reach(ReplicaState.READY)
    second = client.launch(supervised.folder, supervised.spec())
    assert os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, second, 0))[1]) == 2
    assert "another supervisor holds" in supervised.log()
    assert (await supervised.reach(ReplicaState.READY)).supervisor_pid == supervised.pid


async def test_a_refused_spec_is_said_in_the_log(supervised: Supervised) -> None:
    supervised.launch(replace(supervised.spec(), engine=EngineSpec("llama")))
    assert os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, supervised.pid, 0))[1]) == 2
    supervised.pid = 0
    assert "'llama' is unknown" in supervised.log()


async def test_nobody_is_asked_where_nobody_is(tmp_path: Path) -> None:
    assert await client.status(tmp_path) is None
    assert not await client.drain(tmp_path)
    assert not client.alive(tmp_path / "nowhere")
