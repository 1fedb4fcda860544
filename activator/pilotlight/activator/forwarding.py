"""The seam to the engines: HTTP by aiohttp, its exceptions translated, a connection closed where a request ends early.

Closing the connection is how an engine is told to abort: it takes effect within a step, whatever the request's id.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from pilotlight.activator.settings import Settings
from pilotlight.activator.values import Replica

_READ_BYTES = 64 * 1024
_DEAD = (b"EngineDeadError", b"EngineCore encountered")  # vLLM's API server outlives its engine for a moment


class ReplicaLostError(Exception):
    """A replica could not be reached, or died under a request; `sent`: it may have begun to work on it."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent


class SilentError(Exception):
    """A replica said nothing for as long as it may; it is not known to have died."""


class Answer:
    """An engine's response as it comes in."""

    __slots__ = ("_response",)

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    @property
    def status(self) -> int:
        return self._response.status

    def header(self, name: str) -> str | None:
        return self._response.headers.get(name)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives; raises `ReplicaLostError` when it breaks off, `SilentError` when nothing comes."""
        with _translated():
            async for data in self._response.content.iter_any():
                yield data

    async def read(self, limit: int) -> bytes:
        """The body, or its first `limit` bytes; raises `ReplicaLostError` when it breaks off before."""
        body = bytearray()
        async for data in self.chunks():
            body += data
            if len(body) >= limit:
                break
        return bytes(body[:limit])


class Upstream:
    """Connections to all replicas."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Inside the event loop that will use it."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=self._settings.keepalive_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=_READ_BYTES,
            skip_auto_headers=("User-Agent", "Accept-Encoding"),
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def exchange(
        self, replica: Replica, path: str, body: bytes, request: str, silence: float
    ) -> AsyncIterator[Answer]:
        """Post `body` to a replica, or to the service that stands for it.

        Leaving the block before the answer's end closes the connection.

        Raises `ReplicaLostError` when there is no answer, or one of a replica that is not well; `SilentError` when
        nothing came for `silence` seconds.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._settings.connect_seconds, sock_read=silence)
        headers = {
            "Authorization": f"Bearer {replica.engine_key}",
            "Content-Type": "application/json",
            "X-Request-Id": request,
        }
        assert self._session is not None, "open() comes first"
        with _translated():
            response = await self._session.post(
                f"{replica.url}/v1/{path}", data=body, headers=headers, allow_redirects=False, timeout=timeout
            )
        try:
            answer = Answer(response)
            if response.status in (401, 403):
                raise ReplicaLostError(f"it refused the engine key with {response.status}", sent=False)
            yield answer
        except BaseException:
            response.close()
            raise
        response.release()


def is_dead(body: bytes) -> bool:
    """Whether an error of the engine's server says that the engine behind it has died."""
    return any(mark in body for mark in _DEAD)


class _translated:  # noqa: N801 - reads as a verb at its uses, as contextlib's own
    """Translates aiohttp's exceptions at the seam."""

    def __enter__(self) -> None:
        return

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            raise ReplicaLostError(f"no connection: {_words(error)}", sent=False) from error
        if isinstance(error, aiohttp.SocketTimeoutError):
            raise SilentError from error
        if isinstance(error, aiohttp.ClientError | TimeoutError | ConnectionError):
            raise ReplicaLostError(f"the connection broke: {_words(error)}", sent=True) from error


def _words(error: BaseException) -> str:
    text = str(error).splitlines()
    return (text[0] if text else type(error).__name__)[:200]
