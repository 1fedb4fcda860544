"""The activator on a real port, hand-written fakes of its `Protocol`s, and two kinds of engines behind it.

`ScriptedEngine` does exactly what a test tells it, byte by byte; `simulated` is the product's own stand-in for vLLM, as
a process of its own. Time that decides anything is `FakeClock`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import pytest
import uvicorn

from pilotlight.activator.activator import Activator
from pilotlight.activator.settings import Settings
from pilotlight.activator.values import Caller, FunctionId, Replica, Route, Usage

CHAT = FunctionId("team-a", "chat")
KEY = "pl-alice"
ENGINE_KEY = "engine-secret"
_DEADLINE = 30.0

WaitFor = Callable[[Callable[[], bool], str], Awaitable[None]]
ReadEvent = Callable[[aiohttp.ClientResponse], Awaitable[str]]
ReadRest = Callable[[aiohttp.ClientResponse], Awaitable[list[str]]]
MakeRoute = Callable[..., Route]


async def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds; fail with its description after half a minute."""
    try:
        async with asyncio.timeout(_DEADLINE):
            while not condition():  # noqa: ASYNC110 - conditions are of many kinds, none has an event
                await asyncio.sleep(0.002)
    except TimeoutError:
        pytest.fail(f"{what} did not happen within {_DEADLINE} s")


class FakeClock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.passed = 0.0

    def now(self) -> float:
        return 1_800_000_000.0 + self.passed

    def monotonic(self) -> float:
        return 100.0 + self.passed

    def advance(self, seconds: float) -> None:
        self.passed += seconds


class Keys:
    """Two teams, a key for one function only, and an admin."""

    def __init__(self) -> None:
        self.callers = {
            KEY: Caller("k-alice", frozenset({"team-a"})),
            "pl-bob": Caller("k-bob", frozenset({"team-b"})),
            "pl-narrow": Caller("k-narrow", frozenset({"team-a"}), frozenset({FunctionId("team-a", "other")})),
            "pl-admin": Caller("k-admin", None, admin=True),
        }

    def authenticate(self, secret: str) -> Caller | None:
        return self.callers.get(secret)


class RecordingWaker:
    def __init__(self) -> None:
        self.woken: list[FunctionId] = []
        self.losses: list[tuple[FunctionId, str, str]] = []

    def wake(self, function: FunctionId) -> None:
        self.woken.append(function)

    def lost(self, function: FunctionId, replica: str, reason: str) -> None:
        self.losses.append((function, replica, reason))


class RecordingMeter:
    """Checks the protocol's laws while it records."""

    def __init__(self) -> None:
        self.admissions: list[Usage] = []
        self.checkpoints: list[Usage] = []
        self.rows: list[Usage] = []

    def admitted(self, usage: Usage) -> None:
        assert usage.outcome == "running"
        self.admissions.append(usage)

    def checkpoint(self, usages: Sequence[Usage]) -> None:
        finished = {row.request for row in self.rows}
        assert not finished & {usage.request for usage in usages}, "a checkpoint after the final row"
        self.checkpoints.extend(usages)

    def finished(self, usage: Usage) -> None:
        assert usage.request not in {row.request for row in self.rows}, "two rows of one request"
        assert usage.outcome in {"ok", "cancelled", "rejected", "failed"}
        self.rows.append(usage)


class Call:
    """One request as it arrived at a scripted engine, and the answer that the test gives."""

    def __init__(
        self,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.path = path
        self.headers = headers
        self.raw = body
        self.body: dict[str, Any] = json.loads(body)
        self._reader = reader
        self._writer = writer

    async def start(self, status: int = 200, kind: str = "text/event-stream") -> None:
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        self._writer.write(head.encode())
        await self._writer.drain()

    async def send(self, data: bytes) -> None:
        self._writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await self._writer.drain()

    async def event(self, chunk: Mapping[str, object]) -> None:
        await self.send(b"data: " + json.dumps(chunk).encode() + b"\n\n")

    async def tokens(self, text: str, ids: Sequence[int], *, total: int, prompt: int = 7) -> None:
        """A completion chunk as vLLM 0.32 words it when ids and running usage are asked for."""
        usage = {"prompt_tokens": prompt, "completion_tokens": total, "total_tokens": prompt + total}
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": None, "token_ids": list(ids)}
        await self.event({"id": "cmpl-1", "object": "text_completion", "choices": [choice], "usage": usage})

    async def done(self, *, total: int, prompt: int = 7, cached: int = 0) -> None:
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": total,
            "total_tokens": prompt + total,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
        await self.event({"id": "cmpl-1", "object": "text_completion", "choices": [], "usage": usage})
        await self.send(b"data: [DONE]\n\n")
        await self.finish()

    async def finish(self) -> None:
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()
        self._writer.close()

    async def answer(self, body: Mapping[str, object], status: int = 200) -> None:
        await self.start(status, "application/json")
        await self.send(json.dumps(body).encode())
        await self.finish()

    def die(self) -> None:
        """As after kill -9: the connection is reset."""
        self._writer.transport.abort()

    async def gone(self) -> None:
        """Wait until the activator closed the connection."""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(_DEADLINE):
                while await self._reader.read(1024):
                    pass
        self._writer.close()


class ScriptedEngine:
    """Accepts connections and hands every request to the test."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._calls: asyncio.Queue[Call] = asyncio.Queue()
        self._writers: list[asyncio.StreamWriter] = []
        self.port = 0

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            if not writer.is_closing():
                writer.transport.abort()

    @property
    def pending(self) -> int:
        return self._calls.qsize()

    async def call(self) -> Call:
        async with asyncio.timeout(_DEADLINE):
            return await self._calls.get()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            body = await reader.readexactly(int(headers["content-length"]))
            case_kept = dict(line.split(": ", 1) for line in head[1:] if line)
            kept = {name.lower(): value for name, value in case_kept.items()}
            self._calls.put_nowait(Call(head[0].split(" ")[1], kept, body, reader, writer))

    def replica(self, identity: str = "r1", **changes: Any) -> Replica:
        base = Replica(identity, "chat-1", f"http://127.0.0.1:{self.port}", ENGINE_KEY, slots=4)
        return replace(base, **changes)


@dataclass
class Stage:
    """A running activator and everything around it."""

    activator: Activator
    url: str
    client: aiohttp.ClientSession
    clock: FakeClock
    waker: RecordingWaker
    meter: RecordingMeter
    routes: dict[FunctionId, Route] = field(default_factory=dict)

    def apply(self, *routes: Route) -> None:
        self.routes = {route.function: route for route in routes}
        self.activator.apply(self.routes)

    def update(self, function: FunctionId = CHAT, **changes: Any) -> None:
        self.routes[function] = replace(self.routes[function], **changes)
        self.activator.apply(self.routes)

    def post(
        self, path: str = "/v1/completions", *, key: str = KEY, headers: Mapping[str, str] | None = None, **body: Any
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """A request to the function `chat` unless `model` says otherwise; `data` and `json` replace the whole body."""
        if not body.keys() & {"json", "data"}:
            body = {"json": {"model": "chat", "prompt": "hello", **body}}
        sent = {"Authorization": f"Bearer {key}", **(headers or {})}
        return self.client.post(self.url + path, headers=sent, **body)

    async def open(self, *arguments: Any, **keywords: Any) -> aiohttp.ClientResponse:
        """The response as soon as its headers are there; the test reads the rest."""
        return await self.post(*arguments, **keywords).__aenter__()

    async def status(self, *arguments: Any, **keywords: Any) -> int:
        async with self.post(*arguments, **keywords) as response:
            await response.read()
            return response.status

    async def error(self, *arguments: Any, **keywords: Any) -> tuple[int, dict[str, Any]]:
        """The status and the error object of a refused request."""
        async with self.post(*arguments, **keywords) as response:
            body = await response.json()
            assert set(body["error"]) == {"message", "type", "param", "code"}, "OpenAI's shape"
            return response.status, body["error"]

    def demand(self, function: FunctionId = CHAT) -> tuple[int, int]:
        demand = self.activator.demand()[function]
        return demand.queued, demand.in_flight

    async def held(self, count: int, function: FunctionId = CHAT) -> None:
        await eventually(lambda: self.demand(function)[0] == count, f"{count} requests held")

    async def row(self) -> Usage:
        await eventually(lambda: len(self.meter.rows) > 0, "a row")
        return self.meter.rows[-1]


def route(function: FunctionId = CHAT, **changes: Any) -> Route:
    base = Route(function, "chat-1", "generate", "served-chat", context=1000, tokenizer=None, start_eta_seconds=20.0)
    return replace(base, **changes)


@contextlib.asynccontextmanager
async def _serving(app: Any) -> AsyncIterator[str]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    config = uvicorn.Config(
        app, http="httptools", ws="none", lifespan="off", log_level="warning", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    await eventually(lambda: server.started, "the server's start")
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


@contextlib.asynccontextmanager
async def _staged(settings: Settings) -> AsyncIterator[Stage]:
    clock, waker, meter = FakeClock(), RecordingWaker(), RecordingMeter()
    activator = Activator(Keys(), waker, meter, clock, settings)
    await activator.start()
    connector = aiohttp.TCPConnector(limit=0)
    try:
        async with _serving(activator.app) as url, aiohttp.ClientSession(connector=connector) as client:
            stage = Stage(activator, url, client, clock, waker, meter)
            stage.apply(route())
            yield stage
            await activator.close()
    finally:
        await activator.close()


@pytest.fixture
def settings() -> Settings:
    """Override in a module or class for other limits; the tick is real, what it decides is not."""
    return Settings(tick_seconds=0.005)


@pytest.fixture
async def stage(settings: Settings) -> AsyncIterator[Stage]:
    async with _staged(settings) as staged:
        yield staged


@pytest.fixture
async def engine() -> AsyncIterator[ScriptedEngine]:
    scripted = ScriptedEngine()
    await scripted.start()
    yield scripted
    await scripted.stop()


@pytest.fixture
async def second_engine() -> AsyncIterator[ScriptedEngine]:
    scripted = ScriptedEngine()
    await scripted.start()
    yield scripted
    await scripted.stop()


@dataclass
class Simulated:
    """A simulated engine's process."""

    process: subprocess.Popen[str]
    url: str

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)

    def replica(self, identity: str = "r1", **changes: Any) -> Replica:
        return replace(Replica(identity, "chat-1", self.url, ENGINE_KEY, slots=4), **changes)


StartSimulated = Callable[..., Simulated]


@pytest.fixture
def simulated() -> Iterator[Callable[..., Simulated]]:
    """Start a simulated engine: `simulated(simulated_mean_tokens=8)`."""
    started: list[subprocess.Popen[str]] = []

    def start(**options: object) -> Simulated:
        command = [
            sys.executable,
            "-m",
            "pilotlight.runtime.simulated",
            "--port",
            "0",
            "--served-model-name",
            "served-chat",
        ]
        for name, value in options.items():
            command += ["--option", f"{name}={value}"]
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={**os.environ, "VLLM_API_KEY": ENGINE_KEY}
        )
        started.append(process)
        assert process.stderr is not None
        for line in process.stderr:
            if "endpoint=" in line:
                return Simulated(process, line.strip().rpartition("endpoint=")[2])
        pytest.fail("the simulated engine did not start")

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


@pytest.fixture
def make_route() -> Callable[..., Route]:
    return route


@pytest.fixture
def wait_for() -> Callable[[Callable[[], bool], str], Awaitable[None]]:
    return eventually


@pytest.fixture
def read_event() -> Callable[[aiohttp.ClientResponse], Awaitable[str]]:
    """The next event or comment of a stream, without its blank line."""

    async def read(response: aiohttp.ClientResponse) -> str:
        async with asyncio.timeout(_DEADLINE):
            return (await response.content.readuntil(b"\n\n")).decode().removesuffix("\n\n")

    return read


@pytest.fixture
def read_rest() -> Callable[[aiohttp.ClientResponse], Awaitable[list[str]]]:
    """Everything that still comes, as events."""

    async def read(response: aiohttp.ClientResponse) -> list[str]:
        async with asyncio.timeout(_DEADLINE):
            text = (await response.content.read()).decode()
        return [event for event in text.split("\n\n") if event]

    return read
