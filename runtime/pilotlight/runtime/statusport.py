"""A replica's status over the network: `GET /status` for whoever bears the engine key, and nothing else."""

from __future__ import annotations

import asyncio
import hmac

from pilotlight.runtime.codec import dump
from pilotlight.runtime.podspec import STATUS_TARGET
from pilotlight.runtime.replica import Replica
from pilotlight.runtime.wire import Request, Response, answer

CONNECTIONS = 64
"""Served at a time; one more is closed at once. Each takes at most 80 KiB and ten seconds, known to us or not."""


async def serve_status(host: str, port: int, key: str, replica: Replica) -> asyncio.Server:
    """Listen until the server is closed. Raises OSError."""
    expected = f"Bearer {key}".encode()
    free = asyncio.Semaphore(CONNECTIONS)

    async def handle(request: Request) -> Response:
        given = [value for name, value in request.headers if name == b"authorization"]
        if len(given) != 1 or not hmac.compare_digest(given[0], expected):
            return Response.json(401, {"error": "a replica tells its status to its platform alone"})
        if (request.method, request.target) != ("GET", STATUS_TARGET):
            return Response.json(404, {"error": f"expected GET {STATUS_TARGET}"})
        return Response(200, dump(await replica.status()))

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if free.locked():
            writer.close()
            return
        async with free:
            await answer(reader, writer, handle)

    return await asyncio.start_server(connected, host, port)
