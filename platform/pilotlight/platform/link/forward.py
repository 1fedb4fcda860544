"""`/api/...` at an activator is the leader's: a reverse proxy over the link, streaming both ways."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass

import aiohttp
import structlog
from yarl import URL

from pilotlight.platform.api.errors import HttpError, answer
from pilotlight.platform.dispatch import Receive, Scope, Send

log = structlog.get_logger(__name__)

_HOP_BY_HOP = frozenset(
    [
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    ]
)
"""RFC 9110, section 7.6.1, and the older names that are still sent."""

Headers = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True)
class ForwarderSettings:
    body_bytes: int = 256 * 2**20
    """Largest body of a request, bytes; it is streamed. Parts of models, where no store signs, have 128 MiB at most."""
    connect_seconds: float = 2.0
    silence_seconds: float = 600.0
    """Longest silence of an answer: a followed log may say nothing for long."""
    retry_seconds: int = 2
    """`Retry-After` while nobody leads: a new leader takes over within so long most often."""


class Forwarder:
    """An ASGI application. Keys are not looked at here: the leader's API does that."""

    def __init__(self, url: str, tls: Callable[[], ssl.SSLContext], settings: ForwarderSettings | None = None) -> None:
        """`url`: https://SERVICE:PORT of the leader; `tls`: `tls.client_context`'s."""
        self._url = url.rstrip("/")
        self._tls = tls
        self._settings = settings or ForwarderSettings()
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open what needs the running event loop."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, use_dns_cache=False),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self._settings.connect_seconds, sock_read=self._settings.silence_seconds
            ),
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = _Client(receive, self._settings.body_bytes)
        try:
            response = await self._ask(scope, client)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            if not client.gone:
                refusal = self._too_large() if client.too_large else self._nobody(error)
                await answer(refusal)(scope, receive, send)
        else:
            await _relay(response, client, send)

    async def _ask(self, scope: Scope, client: _Client) -> aiohttp.ClientResponse:
        assert self._session is not None, "start() comes first"
        query = scope["query_string"].decode("latin-1")
        path = scope["raw_path"].decode("latin-1")
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in _end_to_end(scope["headers"])]
        has_body = any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])
        if not has_body:
            client.has_no_body()
        return await self._session.request(
            scope["method"],
            URL(f"{self._url}{path}{'?' if query else ''}{query}", encoded=True),
            headers=headers,
            data=client.body() if has_body else None,
            ssl=self._tls(),
            allow_redirects=False,
        )

    def _too_large(self) -> HttpError:
        return HttpError(413, "request_too_large", f"a body may have {self._settings.body_bytes} bytes at most")

    def _nobody(self, error: Exception) -> HttpError:
        log.warning("nobody leads", url=self._url, error=str(error) or type(error).__name__)
        message = "no control plane answers just now; functions that are known keep being served"
        return HttpError(503, "unavailable", message, headers={"retry-after": str(self._settings.retry_seconds)})


class _Client:
    """The caller's side of one exchange. What goes wrong in a body is noted here: aiohttp words it its own way."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._body_over = asyncio.Event()
        self.gone = False
        self.too_large = False

    async def body(self) -> AsyncIterator[bytes]:
        """Raises ConnectionError when it cannot be had as a whole: the caller leaves, or sends more than it may."""
        read, more = 0, True
        try:
            while more:
                message = await self._receive()
                self.gone = message["type"] == "http.disconnect"
                data = message.get("body", b"")
                read += len(data)
                self.too_large = read > self._limit
                if self.gone or self.too_large:
                    raise ConnectionError("no whole body")
                more = message.get("more_body", False)
                yield data
        finally:
            self._body_over.set()

    def has_no_body(self) -> None:
        self._body_over.set()

    async def leaves(self) -> None:
        """Returns when the caller has left."""
        await self._body_over.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True


async def _relay(response: aiohttp.ClientResponse, client: _Client, send: Send) -> None:
    """Until the answer's end, or until either side leaves."""
    sending = asyncio.create_task(_send(response, send))
    leaving = asyncio.create_task(client.leaves())
    try:
        await asyncio.wait([sending, leaving], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, leaving):
            task.cancel()
        await asyncio.gather(sending, leaving, return_exceptions=True)
        response.release()  # which closes the connection of an answer that has not ended
    if not sending.cancelled() and (broken := sending.exception()):
        log.warning("an answer broke off", url=str(response.url.origin()), error=str(broken) or type(broken).__name__)


async def _send(response: aiohttp.ClientResponse, send: Send) -> None:
    headers = [(name, value) for name, value in _end_to_end(response.raw_headers) if name != b"date"]  # ours is added
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    async for data in response.content.iter_any():
        await send({"type": "http.response.body", "body": data, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _end_to_end(headers: Headers) -> Headers:
    """Without what is meant for one connection; names in lower case, as ASGI wants them."""
    known = [(name.lower(), value) for name, value in headers]
    named = {part.strip().lower() for name, value in known if name == b"connection" for part in value.split(b",")}
    return [(name, value) for name, value in known if name not in _HOP_BY_HOP | named | {b"expect"}]
