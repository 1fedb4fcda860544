"""HTTP/1.1 in small: one exchange per connection, for the control socket and for the questions to the engine.

h11 speaks the protocol; a server or client framework would cost a third of a second of every cold start to import.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import h11

_READ_BYTES = 65536
REQUEST_LIMIT = 65536
"""Largest request body that a server here takes, bytes."""
SERVER_SECONDS = 10.0
"""A peer that is slower in sending its request, or in taking the answer, is dropped."""


class WireError(Exception):
    """The peer does not speak HTTP, says too much, or went away."""


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """As a server got them, names in lower case; a client's are given to `ask`."""


@dataclass(frozen=True)
class Response:
    status: int
    body: bytes = b""

    @classmethod
    def json(cls, status: int, value: object) -> Response:
        return cls(status, json.dumps(value).encode())


Handler = Callable[[Request], Awaitable[Response]]


async def ask(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    request: Request,
    headers: Mapping[str, str],
    limit: int,
) -> Response:
    """Send one request and read its answer of at most `limit` bytes, then close. Raises WireError."""
    connection = h11.Connection(h11.CLIENT)
    fields = {"host": "localhost", "connection": "close", "content-length": str(len(request.body)), **headers}
    try:
        head = h11.Request(method=request.method, target=request.target, headers=list(fields.items()))
        writer.write(connection.send(head) or b"")
        if request.body:
            writer.write(connection.send(h11.Data(data=request.body)) or b"")
        writer.write(connection.send(h11.EndOfMessage()) or b"")
        await writer.drain()
        start, body = await _read(connection, reader, limit)
    except (h11.ProtocolError, OSError) as error:
        raise WireError(f"{request.method} {request.target}: {error}") from error
    finally:
        writer.close()
    if not isinstance(start, h11.Response):
        raise WireError(f"{request.method} {request.target}: no answer")
    return Response(start.status_code, body)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler) -> None:
    """Serve one request of a connection, then close it."""
    connection = h11.Connection(h11.SERVER)
    try:
        async with asyncio.timeout(SERVER_SECONDS):
            start, body = await _read(connection, reader, REQUEST_LIMIT)
        if isinstance(start, h11.Request):
            await _send(connection, writer, await handler(_request(start, body)))
    except (h11.ProtocolError, WireError, OSError, TimeoutError):
        pass  # the peer's fault, and nobody is there to be told
    finally:
        writer.close()


def _request(start: h11.Request, body: bytes) -> Request:
    return Request(start.method.decode(), start.target.decode("ascii", "replace"), body, tuple(start.headers))


async def _send(connection: h11.Connection, writer: asyncio.StreamWriter, response: Response) -> None:
    fields = [
        ("content-type", "application/json"),
        ("content-length", str(len(response.body))),
        ("connection", "close"),
        *([("www-authenticate", "Bearer")] if response.status == 401 else []),
    ]
    for event in (
        h11.Response(status_code=response.status, headers=fields),
        h11.Data(data=response.body),
        h11.EndOfMessage(),
    ):
        writer.write(connection.send(event) or b"")
    async with asyncio.timeout(SERVER_SECONDS):
        await writer.drain()


async def _read(
    connection: h11.Connection, reader: asyncio.StreamReader, limit: int
) -> tuple[h11.Request | h11.Response | None, bytes]:
    start: h11.Request | h11.Response | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_READ_BYTES))
        elif isinstance(event, h11.Request | h11.Response):
            start = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > limit:
                raise WireError(f"more than {limit} bytes")
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            return start, bytes(body)
