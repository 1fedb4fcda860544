"""Simulated engines: served in the test's own loop, or as a process."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest

from pilotlight.runtime.simulated.engine import Engine
from pilotlight.runtime.simulated.launch import command, environment
from pilotlight.runtime.simulated.options import read_options
from pilotlight.runtime.simulated.requests import Served
from pilotlight.runtime.simulated.serving import server

Serve = Callable[..., Awaitable[httpx.AsyncClient]]
Spawn = Callable[..., subprocess.Popen[str]]

_NAMES = ("chat", "team/chat")
_SERVED = Served(_NAMES, ("legal", "medical"))


async def _eventually(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = asyncio.get_running_loop().time() + 30
    while not await condition():
        if asyncio.get_running_loop().time() > deadline:
            pytest.fail(f"{what} did not happen within 30 s")
        await asyncio.sleep(0.01)


@pytest.fixture
def eventually() -> Callable[[Callable[[], Awaitable[bool]], str], Awaitable[None]]:
    """Wait until an asynchronous condition holds; fail with its description."""
    return _eventually


def _no_crash() -> None:
    pytest.fail("the engine was not to crash")


@asynccontextmanager
async def _served(engine: Engine, key: str) -> AsyncIterator[httpx.AsyncClient]:
    http = server(engine, _SERVED, key)
    listener = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(http.serve(sockets=[listener]))

    async def started() -> bool:
        return http.started or serving.done()

    await _eventually(started, "the start")
    host, port = listener.getsockname()
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}", headers=headers, timeout=30) as client:
        yield client
    http.should_exit = True
    await serving
    engine.close()


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serve an engine, by default one that needs no time: `client = await serve(max_num_seqs=2, ...)`."""
    async with AsyncExitStack() as stack:

        async def start(
            *, key: str = "", crash: Callable[[], None] = _no_crash, **options: object
        ) -> httpx.AsyncClient:
            given: Mapping[str, object] = {"simulated_time_scale": 0, **options}
            return await stack.enter_async_context(_served(Engine(read_options(given), _NAMES[0], crash), key))

        yield start


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Start an engine's process, with its log on standard error: `process = spawn(simulated_fail_phase="load")`."""
    processes: list[subprocess.Popen[str]] = []

    def start(key: str = "", **options: object) -> subprocess.Popen[str]:
        line = command(0, _NAMES, {"simulated_time_scale": 0, **options})
        variables = {**os.environ, **environment(key)}
        processes.append(subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env=variables))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def endpoint() -> Callable[[subprocess.Popen[str]], str]:
    """Read a process's log up to the line that tells its address."""

    def read(process: subprocess.Popen[str]) -> str:
        assert process.stderr is not None
        for line in process.stderr:
            if told := re.search(r"phase=ready .*endpoint=(\S+)", line):
                return told[1]
        pytest.fail("the engine ended before it was ready")

    return read
