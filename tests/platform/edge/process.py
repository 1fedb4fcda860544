"""A whole `pilotlight activator` in a process of its own, with all that it talks to on loopback."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from tests.platform.edge.apiserver import ApiServer
from tests.platform.edge.conftest import CHAT, function, revision, slice_of
from tests.platform.link.conftest import Pki, serving

from pilotlight.activator.values import FunctionId, Usage
from pilotlight.platform.clock import SystemClock
from pilotlight.platform.database.connection import Database
from pilotlight.platform.database.records import Keys
from pilotlight.platform.database.usage import UsageFilter, UsageRows
from pilotlight.platform.keys import Keyring
from pilotlight.platform.kubernetes.kinds import ENDPOINT_SLICE, FUNCTION
from pilotlight.platform.kubernetes.secrets import EngineKeys
from pilotlight.platform.link.app import link_app
from pilotlight.platform.link.hub import Hub
from pilotlight.runtime.codec import dump
from pilotlight.runtime.spec import Phase, PhaseReport, ReplicaState, ReplicaStatus

MASTER = "m" * 32
NEW = "chat-00002"
DEADLINE = 60.0
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "chat",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}


async def until(condition: Callable[[], Awaitable[bool]] | Callable[[], bool], what: str) -> None:
    """Wait until a condition holds; fail with its description after a minute."""
    try:
        async with asyncio.timeout(DEADLINE):
            while True:
                found = condition()
                if await found if isinstance(found, Awaitable) else found:
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"{what} did not happen within {DEADLINE} s")


class Pod:
    """An engine behind queue-proxy's port, and its supervisor's status, on an address of its own."""

    def __init__(self) -> None:
        self.ip = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}.{random.randint(2, 254)}"  # noqa: S311
        self.state = ReplicaState.STARTING
        self.asked: list[str] = []
        """Engine keys that requests came with."""
        self.go_on = asyncio.Event()
        """Answers wait for it."""
        self.go_on.set()
        self._key = EngineKeys(MASTER)(CHAT.namespace, NEW)
        self._runners: list[web.AppRunner] = []

    async def start(self) -> None:
        for port, method, path, handler in (
            (8012, "POST", "/v1/chat/completions", self._complete),
            (8500, "GET", "/status", self._status),
        ):
            app = web.Application()
            app.router.add_route(method, path, handler)
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, self.ip, port).start()
            self._runners.append(runner)

    async def stop(self) -> None:
        for runner in self._runners:
            await runner.cleanup()

    async def _complete(self, request: web.Request) -> web.Response:
        self.asked.append(request.headers["Authorization"].removeprefix("Bearer "))
        await self.go_on.wait()
        return web.json_response(ANSWER)

    async def _status(self, request: web.Request) -> web.Response:
        if request.headers["Authorization"] != f"Bearer {self._key}":
            return web.Response(status=401)
        phases = (PhaseReport(Phase.LOAD, 1.0, progress=0.5),)
        return web.Response(body=dump(ReplicaStatus("pod-a", NEW, self.state, phases)))


@dataclass
class Leader:
    """The operator's side of the link; can be taken away and brought back to its port."""

    pki: Pki
    port: int = 0
    woken: list[FunctionId] = field(default_factory=list)
    _ends: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        begun = asyncio.Event()
        self._ends.clear()
        self._task = asyncio.create_task(self._serve(begun))
        await begun.wait()

    async def stop(self) -> None:
        self._ends.set()
        if self._task is not None:
            await self._task
            self._task = None

    async def _serve(self, begun: asyncio.Event) -> None:
        hub = Hub("operator-1", SystemClock(), lambda: 1, lambda _: 1000)
        me: dict[str, Any] = {"leader": lambda: "operator-1", "me": "operator-1", "api": _api}
        app = link_app(hub, self.woken.append, lambda *_: None, **me)
        async with serving(app, self.pki.server(), self.port) as url:
            self.port = int(url.rpartition(":")[2])
            begun.set()
            await self._ends.wait()


async def _api(scope: Any, _receive: Any, send: Any) -> None:
    """The control API, which says what it was asked."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


@dataclass
class Stage:
    """What surrounds the activator, and a client of it."""

    folder: Path
    api_server: ApiServer
    pki: Pki
    leader: Leader
    pod: Pod
    client: aiohttp.ClientSession
    database: Database
    keyring: Keyring
    key: str
    ports: tuple[int, int, int]
    process: asyncio.subprocess.Process | None = None

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def url(self, path: str, port: int = 0) -> str:
        return f"http://127.0.0.1:{port or self.ports[0]}{path}"

    async def start(self, **settings: str) -> None:
        """With further settings by their names, as `grace_seconds`."""
        own = {
            "pod_name": "activator-1",
            "database_url": f"sqlite:///{self.folder}/db",
            "master_key": MASTER,
            "state": str(self.folder / "state"),
            "tls": str(self.pki.activator),
            "host": "127.0.0.1",
            "control_url": f"https://127.0.0.1:{self.leader.port}",
            **dict(zip(("http_port", "https_port", "health_port"), map(str, self.ports), strict=True)),
            **settings,
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PILOTLIGHT_", "KUBE"))}
        environment = kept | {f"PILOTLIGHT_{name.upper()}": value for name, value in own.items()}
        environment["KUBECONFIG"] = str(self.api_server.kubeconfig(self.folder / "kubeconfig"))
        command = (sys.executable, "-Im", "pilotlight.platform.cli", "activator")
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log, env=environment)

    async def ready(self) -> None:
        async def is_ready() -> bool:
            assert self.process is not None
            assert self.process.returncode is None, self.log.read_text()
            return (await self.readiness())[0] == 200

        await until(is_ready, "readiness")

    async def readiness(self) -> tuple[int, str]:
        """Status 0: nobody answers."""
        try:
            async with self.client.get(self.url("/readyz", self.ports[2])) as answer:
                return answer.status, (await answer.text()).strip()
        except aiohttp.ClientError:
            return 0, ""

    async def ask(self, key: str = "", path: str = "/v1/chat/completions", **headers: str) -> aiohttp.ClientResponse:
        """The answer, read."""
        body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
        told = {"Authorization": f"Bearer {key or self.key}", **headers}
        async with self.client.post(self.url(path), json=body, headers=told, allow_redirects=False) as answer:
            await answer.read()
            return answer

    def at_zero(self) -> None:
        self.api_server.put(FUNCTION, function(CHAT, revision(2, eta={"load": 8.0})))

    def running(self, ready: bool = True) -> None:
        """The function, with a pod."""
        self.at_zero()
        self.api_server.put(ENDPOINT_SLICE, slice_of(CHAT, NEW, "pod-a", ip=self.pod.ip, ready=ready))

    def terminate(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    async def ended(self) -> int:
        assert self.process is not None
        async with asyncio.timeout(DEADLINE):
            return await self.process.wait()

    def rows(self) -> tuple[Usage, ...]:
        return UsageRows(self.database).rows(UsageFilter())

    async def certificate(self, host: str) -> bytes:
        """What HTTPS shows for a name, in PEM; empty: nobody listens."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            _, writer = await asyncio.open_connection(
                "127.0.0.1", self.ports[1], ssl=context, server_hostname=host, ssl_handshake_timeout=DEADLINE
            )
        except OSError:
            return b""
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return ssl.DER_cert_to_PEM_cert(shown).encode()


def _free_ports() -> tuple[int, int, int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    first, second, third = (each.getsockname()[1] for each in sockets)
    for each in sockets:
        each.close()
    return first, second, third


@asynccontextmanager
async def staged(folder: Path, api_server: ApiServer, pki: Pki) -> AsyncIterator[Stage]:
    leader, pod = Leader(pki), Pod()
    await leader.start()
    await pod.start()
    database = Database(f"sqlite:///{folder}/db")
    keyring = Keyring(Keys(database), SystemClock())
    _, key = keyring.create("test")
    async with aiohttp.ClientSession() as client:
        stage = Stage(folder, api_server, pki, leader, pod, client, database, keyring, key, _free_ports())
        try:
            yield stage
        finally:
            if stage.process is not None and stage.process.returncode is None:
                stage.process.kill()
                await stage.process.wait()
            pod.go_on.set()
            await pod.stop()
            await leader.stop()
            database.close()
