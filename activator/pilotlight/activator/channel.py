"""One client's side of a request: reading its body within limits, and answering it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from pilotlight.activator.errors import RefusedError, body_too_large, body_too_slow, invalid
from pilotlight.activator.parking import ClientGoneError, Receive, Send
from pilotlight.activator.settings import Settings

_log = logging.getLogger(__name__)

Scope = Mapping[str, Any]
Header = tuple[bytes, bytes]

_CLOSE = (b"connection", b"close")

EVENT_STREAM: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would collect the comments that are to keep it patient
)


class Channel:
    """Sends at most one response; knows whether its status is still open."""

    __slots__ = ("_body_ended", "_leaving", "_send", "finished", "id", "receive", "started")

    def __init__(self, receive: Receive, send: Send, request: str, leaving: Callable[[], bool] = bool) -> None:
        """`leaving`: whether the connection is to end with this answer."""
        self.receive = receive
        self._leaving = leaving
        self._send = send
        self.id = request
        self.started = False
        self.finished = False
        self._body_ended = False

    async def read(self, scope: Scope, settings: Settings, count: Callable[[int], None]) -> bytes:
        """The body; `count` is told every arriving size. Raises `RefusedError` (413, 408), `ClientGoneError`."""
        length = header(scope, b"content-length")
        if length is not None and (not length.isdigit() or len(length) > 19):
            raise invalid("The header Content-Length is not a number.")
        if length is not None and int(length) > settings.body_bytes:
            raise body_too_large(settings.body_bytes)
        try:
            async with asyncio.timeout(settings.body_seconds):
                return await self._read(settings.body_bytes, count)
        except TimeoutError as error:
            raise body_too_slow(settings.body_seconds) from error

    async def _read(self, limit: int, count: Callable[[int], None]) -> bytes:
        parts: list[bytes] = []
        size = 0
        while not self._body_ended:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            part = message.get("body", b"")
            size += len(part)
            count(len(part))
            if size > limit:
                raise body_too_large(limit)
            parts.append(part)
            self._body_ended = not message.get("more_body", False)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def start(self, status: int, headers: Iterable[Header]) -> None:
        self.started = True
        await self._send(self._head(status, headers))

    def _head(self, status: int, headers: Iterable[Header]) -> dict[str, object]:
        told = [*headers, (b"x-request-id", self.id.encode())]
        if self._leaving() and _CLOSE not in told:
            told.append(_CLOSE)
        return {"type": "http.response.start", "status": status, "headers": told}

    async def write(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    def offer(self, data: bytes) -> bool:
        """Write without waiting; False: the client takes nothing just now, and nothing was written.

        A server waits for room before it writes: one that would wait is stopped before that. What is wrong with a
        connection is for its own task to find out.
        """
        return self._offer({"type": "http.response.body", "body": data, "more_body": True})

    def offer_start(self, headers: Iterable[Header]) -> bool:
        """The same for the head of a stream; True also when it has left already."""
        if not self.started:
            self.started = self._offer(self._head(200, headers))
        return self.started

    def _offer(self, message: dict[str, object]) -> bool:
        sending = self._send(message).__await__()
        try:
            next(sending)
        except StopIteration:
            return True
        except Exception:  # noqa: BLE001 - one broken connection must not cost the others their heartbeats
            _log.debug("a heartbeat of %s failed", self.id, exc_info=True)
            return False
        sending.close()
        return False

    async def finish(self, data: bytes = b"") -> None:
        self.finished = True
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def answer(self, status: int, headers: Iterable[Header], body: bytes) -> None:
        await self.start(status, [*headers, (b"content-length", str(len(body)).encode())])
        await self.finish(body)

    async def refuse(self, refusal: RefusedError, headers: Iterable[Header], settings: Settings) -> None:
        """Tell a refusal: as a true status where none was sent, else as the stream's last event.

        A client that does not take it in time is left to its server, which closes what was not answered whole.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(settings.stall_seconds):
                await self._refuse(refusal, headers, settings)

    async def _refuse(self, refusal: RefusedError, headers: Iterable[Header], settings: Settings) -> None:
        if self.started:
            if not self.finished:
                await self.finish(refusal.event())
            return
        body = refusal.body()
        length = (b"content-length", str(len(body)).encode())
        await self.start(refusal.status, [*refusal.response_headers(), *headers, length])
        if not self._body_ended and _CLOSE in refusal.headers:
            await self.write(body)
            await self._linger(settings.linger_seconds)
            await self.finish()
        else:
            await self.finish(body)

    async def _linger(self, seconds: float) -> None:
        """Drop what still comes for a moment: closing at once would reset the connection under the client's answer."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    message = await self.receive()
                    if message["type"] == "http.disconnect" or not message.get("more_body", False):
                        return
        except TimeoutError:
            return


def header(scope: Scope, name: bytes) -> str | None:
    """The first header of that lower-case name."""
    for key, value in scope["headers"]:
        if key == name:
            text: str = value.decode("latin-1")
            return text
    return None
