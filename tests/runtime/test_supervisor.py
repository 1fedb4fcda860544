"""A supervisor's whole life as a process, with the simulated engine: up, asked, drained, orphaned, killed, failed."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import stat
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pilotlight.runtime import client, guard
from pilotlight.runtime.locks import FileLock
from pilotlight.runtime.spec import EngineSpec, Phase, ReplicaState

if TYPE_CHECKING:
    from tests.runtime.conftest import Supervised

Processes = Callable[[], set[int]]


def _arguments(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode()


def _open_files(pid: int) -> set[str]:
    try:
        return {handle.readlink().name for handle in Path(f"/proc/{pid}/fd").iterdir()}
    except OSError:
        return set()


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


async def test_what_the_engine_counts_is_told_while_it_has_work(supervised: Supervised) -> None:
    supervised.launch(supervised.spec(simulated_decode_base_seconds=3600.0))
    endpoint = (await supervised.reach(ReplicaState.READY)).endpoint
    stream = asyncio.create_task(asyncio.to_thread(_complete, endpoint))
    await supervised.until(lambda status: status.counters is not None)
    status = await supervised.reach(ReplicaState.READY)
    assert await client.stop(supervised.folder)
    await supervised.ended()
    with pytest.raises((OSError, HTTPException)):
        await stream

    assert status.counters is not None
    assert (status.counters.prompts, status.counters.gaps, status.counters.gap_seconds) == (1, 0, 0.0)
    assert (status.counters.prompt_tokens or 0) > 0
    assert status.counters.in_flight == status.counters.looks >= 1


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


@pytest.mark.parametrize(("limit", "signals"), [(1.0, 1), (600.0, 2)], ids=["at its limit", "at a second signal"])
async def test_a_drain_of_a_stream_without_end_ends(supervised: Supervised, limit: float, signals: int) -> None:
    supervised.launch(replace(supervised.spec(simulated_decode_base_seconds=3600.0), drain_seconds=limit))
    status = await supervised.reach(ReplicaState.READY)
    stream = asyncio.create_task(asyncio.to_thread(_complete, status.endpoint))
    await supervised.until(lambda status: bool(status.running))
    for _ in range(signals):
        os.kill(supervised.pid, signal.SIGTERM)
        await supervised.reach(ReplicaState.DRAINING)
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
    assert re.fullmatch(r"the start took longer than 2 s, and was in phase (import|load) then", status.message)


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


async def test_a_refused_spec_is_said_in_the_log_and_the_status(supervised: Supervised) -> None:
    supervised.launch(replace(supervised.spec(), engine=EngineSpec("llama")))
    assert os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, supervised.pid, 0))[1]) == 2
    assert "'llama' is unknown" in supervised.log()
    status = await client.status(supervised.folder)
    assert status is not None
    assert status.state is ReplicaState.FAILED
    assert status.message.startswith("the spec was refused: engine kind 'llama' is unknown")


async def test_nobody_is_asked_where_nobody_is(tmp_path: Path) -> None:
    assert await client.status(tmp_path) is None
    assert not await client.drain(tmp_path)


def test_asking_whether_one_lives_leaves_no_trace(tmp_path: Path) -> None:
    assert not client.alive(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


async def test_who_asks_whether_a_supervisor_lives_does_not_keep_one_from_starting(
    supervised: Supervised, until: Callable[[Callable[[], bool], str], None]
) -> None:
    supervised.folder.mkdir(parents=True)
    lock = FileLock(supervised.folder / client.LOCK_FILE)
    assert lock.try_acquire(shared=True)
    supervised.launch(supervised.spec())
    until(lambda: client.LOCK_FILE in _open_files(supervised.pid), "the supervisor's try")
    lock.close()
    await supervised.reach(ReplicaState.READY)
