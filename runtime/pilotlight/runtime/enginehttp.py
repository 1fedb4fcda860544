"""Questions to an engine on loopback: is it well, what does it do."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

from pilotlight.runtime.wire import Request, Response, WireError, ask

_ANSWER_BYTES = 8 << 20
_LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp


class EngineHttp:
    def __init__(self, port: int, key: str) -> None:
        self._port, self._key = port, key

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def healthy(self, seconds: float = 2.0) -> bool:
        """Whether it answers 200 to GET /health; the key is not sent, whoever listens there."""
        try:
            return (await self._ask(Request("GET", "/health"), {}, seconds)).status == 200
        except WireError:
            return False

    async def metrics(self, seconds: float = 2.0) -> str:
        """Raises WireError."""
        response = await self._ask(Request("GET", "/metrics"), {}, seconds)
        if response.status != 200:
            raise WireError(f"GET /metrics: status {response.status}")
        return response.body.decode("utf-8", "replace")

    async def in_flight(self, route: tuple[str, str], seconds: float = 2.0) -> int:
        """Requests in hand by the engine's own count. Raises WireError."""
        target, field = route
        response = await self.send(Request("GET", target), seconds)
        try:
            return int(json.loads(response.body)[field])
        except (ValueError, KeyError, TypeError) as error:
            raise WireError(f"GET {target}: status {response.status}, no {field}") from error

    async def send(self, request: Request, seconds: float) -> Response:
        """With the key. Raises WireError."""
        headers = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
        return await self._ask(request, headers, seconds)

    async def _ask(self, request: Request, headers: dict[str, str], seconds: float) -> Response:
        try:
            async with asyncio.timeout(seconds):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                return await ask(reader, writer, request, headers, _ANSWER_BYTES)
        except (OSError, TimeoutError) as error:
            raise WireError(f"{request.method} {request.target}: {str(error) or 'no answer in time'}") from error


def free_port() -> int:
    """A port of loopback that is free now; another process may take it before the engine does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int, processes: set[int]) -> bool:
    """Whether one of the processes holds the socket that listens on the port, so that no other gets our key."""
    wanted = {f"socket:[{inode}]" for inode in _listeners(port)}
    return any(_link(handle) in wanted for pid in processes for handle in _handles(pid))


def _listeners(port: int) -> list[str]:
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return [row[9] for row in rows if row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) == port]


def _handles(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return []


def _link(handle: Path) -> str:
    try:
        return str(handle.readlink())
    except OSError:
        return ""
