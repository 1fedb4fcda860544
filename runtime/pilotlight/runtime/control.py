"""The control socket: `GET /status`, `POST /drain`, `POST /stop` on `<replica folder>/control.sock`, mode 0600."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from pilotlight.runtime.codec import dump
from pilotlight.runtime.spec import ReplicaStatus
from pilotlight.runtime.wire import Request, Response, answer

SOCKET_FILE = "control.sock"


class Controlled(Protocol):
    """What is controlled."""

    async def status(self) -> ReplicaStatus: ...

    def drain(self) -> None: ...

    def stop(self) -> None: ...


async def serve_control(folder: Path, controlled: Controlled) -> asyncio.Server:
    """Listen until the server is closed; a stale socket of a dead supervisor is replaced."""
    listener = socket.socket(socket.AF_UNIX)
    with short_path(folder) as short:
        (folder / SOCKET_FILE).unlink(missing_ok=True)
        previous = os.umask(0o177)
        try:
            listener.bind(f"{short}/{SOCKET_FILE}")
        finally:
            os.umask(previous)
    handler = _handler(controlled)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answer(reader, writer, handler)

    return await asyncio.start_unix_server(connected, sock=listener)


@contextmanager
def short_path(folder: Path) -> Iterator[str]:
    """A name of the folder that is short enough for a socket's address, which may have 107 bytes."""
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)


def _handler(controlled: Controlled) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        match (request.method, request.target):
            case ("GET", "/status"):
                return Response(200, dump(await controlled.status()))
            case ("POST", "/drain"):
                controlled.drain()
            case ("POST", "/stop"):
                controlled.stop()
            case _:
                known = "expected GET /status, POST /drain or POST /stop"
                return Response.json(404, {"error": f"no route {request.method} {request.target[:100]}: {known}"})
        return Response.json(202, {})

    return handle
