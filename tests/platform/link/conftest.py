"""An authority with an operator and an activator, real TLS servers on loopback, and an activator's demand by hand."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pilotlight.activator.values import Demand, FunctionId
from pilotlight.platform.dispatch import App
from pilotlight.platform.link.certificates import Pair, Role, authority, files, issue
from pilotlight.platform.link.server import link_server
from pilotlight.platform.link.tls import client_context, server_context, store
from pilotlight.platform.link.wire import Report

CHAT = FunctionId("team-a", "chat")
NAMES = ("localhost", "127.0.0.1")
_DEADLINE = 30.0


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


@dataclass
class Pki:
    """One authority and the folders of two processes."""

    root: Path
    ca: Pair = field(default_factory=lambda: authority(datetime.now(UTC)))

    def __post_init__(self) -> None:
        self.renew()

    @property
    def operator(self) -> Path:
        return self.root / "operator"

    @property
    def activator(self) -> Path:
        return self.root / "activator"

    def renew(self) -> None:
        """New leaves of the same authority for both."""
        now = datetime.now(UTC)
        store(self.operator, files(self.ca, issue(self.ca, Role.OPERATOR, NAMES, now)))
        store(self.activator, files(self.ca, issue(self.ca, Role.ACTIVATOR, (), now)))

    def server(self) -> ssl.SSLContext:
        return server_context(self.operator)

    def client(self) -> Callable[[], ssl.SSLContext]:
        return client_context(self.activator)


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path / "pki")


@contextlib.asynccontextmanager
async def serving(app: App, context: ssl.SSLContext, port: int = 0) -> AsyncIterator[str]:
    """The link's server with an application; its connections are cut at the end."""
    listener = socket.create_server(("127.0.0.1", port))
    server = link_server(app, context)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    await eventually(lambda: server.started, "the server's start")
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        await task
        for connection in list(server.server_state.connections):
            connection.transport.abort()
        listener.close()


Serving = Callable[..., AbstractAsyncContextManager[str]]


@pytest.fixture(name="serving")
def _serving() -> Serving:
    return serving


@pytest.fixture(name="eventually")
def _eventually() -> Callable[..., Any]:
    return eventually


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


class Work:
    """An activator's demand, changed by hand; implements the link's `Source`."""

    def __init__(self) -> None:
        self.demands: dict[FunctionId, Demand] = {}
        self.asked = 0
        """How often all of it was asked for, which costs."""
        self._changed: set[FunctionId] = set()

    def put(self, function: FunctionId, **changes: Any) -> None:
        self.demands[function] = replace(self.demands.get(function, Demand(0, 0, 0, 0.0)), **changes)
        self._changed.add(function)

    def drop(self, function: FunctionId) -> None:
        del self.demands[function]
        self._changed.add(function)

    def demand(self) -> Mapping[FunctionId, Demand]:
        self.asked += 1
        return dict(self.demands)

    def changes(self) -> Mapping[FunctionId, Demand | None]:
        changed, self._changed = self._changed, set()
        return {function: self.demands.get(function) for function in changed}


@pytest.fixture
def work() -> Work:
    return Work()


def report(activator: str = "a-1", sequence: int = 1, **fields: Any) -> Report:
    demands = fields.pop("demands", {})
    base = Report(activator, started_at=1.0, sequence=sequence, sent_at=1_800_000_000.0, full=True, demands=demands)
    return replace(base, **fields)


MakeReport = Callable[..., Report]


@pytest.fixture(name="report")
def _report() -> MakeReport:
    return report
