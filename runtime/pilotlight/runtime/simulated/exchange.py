"""One HTTP request over ASGI and the way to answer it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

from . import replies
from .requests import RefusedError

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_LIMIT = 64 * 2**20  # bytes


class DisconnectedError(Exception):
    """The client has left before its request was read."""


@dataclass(frozen=True)
class Exchange:
    """One HTTP request and the way to answer it."""

    scope: Scope
    receive: Receive
    send: Send

    def header(self, name: bytes) -> str | None:
        return next((value.decode("latin-1") for key, value in self.scope["headers"] if key == name), None)

    async def body(self) -> bytes:
        parts, size = [], 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise DisconnectedError
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > BODY_LIMIT:
                raise RefusedError(f"The body is larger than {BODY_LIMIT} bytes.", "Request Entity Too Large", code=413)
            if not message.get("more_body", False):
                return b"".join(parts)

    async def gone(self) -> None:
        """Returns when the client has left, or has been answered in full."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        await self.send({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def push(self, data: bytes) -> None:
        await self.send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self, data: bytes = b"") -> None:
        await self.send({"type": "http.response.body", "body": data})

    async def reply(self, status: int, data: bytes, kind: bytes) -> None:
        await self.start(status, [(b"content-type", kind), (b"content-length", str(len(data)).encode())])
        await self.finish(data)

    async def json(self, value: replies.Json, status: int = 200) -> None:
        await self.reply(status, replies.to_json(value).encode(), b"application/json")
