"""The activator's side of the link: its demand goes to the leader over one connection, and shares come back."""

from __future__ import annotations

import asyncio
import io
import random
import ssl
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
import structlog

from pilotlight.activator.values import Clock, FunctionId
from pilotlight.platform.link.outbox import Outbox, Source
from pilotlight.platform.link.wire import (
    REPORT_PATH,
    Answer,
    Report,
    Shares,
    WireError,
    decode_answer,
    encode_report,
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ReporterSettings:
    """Intervals in seconds."""

    tick_seconds: float = 0.2
    """Changes wait no longer; with the post they are at the leader within 250 ms."""
    heartbeat_seconds: float = 2.0
    """Told at least so often, if only that nothing has changed."""
    post_seconds: float = 1.0
    """An answer that takes longer counts as none."""
    back_off_seconds: float = 0.05
    """After a failed post, doubled with each further one ..."""
    back_off_most_seconds: float = 1.0
    """... up to this: a new leader is found within about a second."""


class LinkError(Exception):
    """A post without a usable answer."""


class Reporter:
    """Implements the activator's `Waker`. All calls are made in the event loop that `start` ran in."""

    def __init__(
        self,
        activator: str,
        url: str,
        tls: Callable[[], ssl.SSLContext],
        clock: Clock,
        cause: Callable[[FunctionId], str] = lambda _function: "",
        settings: ReporterSettings | None = None,
    ) -> None:
        """`activator`: this process, its pod's name; `url`: https://SERVICE:PORT; `tls`: `tls.client_context`'s."""
        self._url = url.rstrip("/") + REPORT_PATH
        self._tls = tls
        self._clock = clock
        self._settings = settings or ReporterSettings()
        self._outbox = Outbox(activator, clock.now(), cause)
        self._poke = asyncio.Event()
        self._told: Callable[[Shares], None] = lambda _shares: None
        self._failures = 0
        self._answered_at = clock.monotonic()
        self._sent_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self.connected = False
        """Whether the last report was answered."""

    @property
    def silent_seconds(self) -> float:
        """Since the leader's last answer, or since this began when there was none: what fail-open goes by."""
        return self._clock.monotonic() - self._answered_at

    def on_shares(self, callback: Callable[[Shares], None]) -> None:
        """Called with every answer; the last shares hold while the leader is away."""
        self._told = callback

    # The activator's `Waker`

    def wake(self, function: FunctionId) -> None:
        self._outbox.wake(function)
        self._poke.set()

    def lost(self, function: FunctionId, replica: str, reason: str) -> None:
        self._outbox.lost(function, replica, reason)
        self._poke.set()

    def leave(self) -> None:
        """No new requests are taken from now on; the others get this one's part of the queue bounds."""
        self._outbox.leave()
        self._poke.set()

    # Running

    async def start(self, source: Source) -> None:
        """Begin to report; what was called before is told first."""
        self._task = asyncio.create_task(self._run(source), name="link reporter")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self, source: Source) -> None:
        connector = aiohttp.TCPConnector(limit=1, use_dns_cache=False)
        timeout = aiohttp.ClientTimeout(total=self._settings.post_seconds)
        async with aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=timeout
        ) as session:
            while True:
                await self._tell(session, source)
                await self._pause()

    async def _tell(self, session: aiohttp.ClientSession, source: Source) -> None:
        self._poke.clear()
        monotonic = self._clock.monotonic()
        heartbeat = monotonic - self._sent_at >= self._settings.heartbeat_seconds
        report = self._outbox.compose(source, self._clock.now(), heartbeat=heartbeat)
        if report is None:
            return
        self._sent_at = monotonic
        try:
            answer = await self._post(session, report)
        except (LinkError, aiohttp.ClientError, OSError, TimeoutError) as error:
            self._failed(error)
        else:
            self._succeeded(report, answer)

    async def _post(self, session: aiohttp.ClientSession, report: Report) -> Answer:
        headers = {"Content-Type": "application/json"}
        body = io.BytesIO(encode_report(report))  # sent in pieces: with many functions it is some MiB
        response = await session.post(self._url, data=body, headers=headers, ssl=self._tls(), allow_redirects=False)
        try:
            if response.status != 200:
                raise LinkError(f"HTTP {response.status}: {await response.content.read(200)!r}")
            answer = decode_answer(await response.read())
        except WireError as error:
            response.close()
            raise LinkError(f"the answer is not one of ours: {error}") from error
        except BaseException:
            response.close()  # the next connection may find another process, one that leads
            raise
        response.release()
        return answer

    def _succeeded(self, report: Report, answer: Answer) -> None:
        if not self.connected:
            log.info("link up", leader=answer.leader, url=self._url)
        self.connected, self._failures = True, 0
        self._answered_at = self._clock.monotonic()
        self._outbox.answered(report, resync=answer.resync)
        if answer.resync:
            self._poke.set()
        self._told(Shares(answer.activators, answer.shares))

    def _failed(self, error: Exception) -> None:
        if self.connected or not self._failures:
            log.warning("link down; it is tried again", url=self._url, error=str(error) or type(error).__name__)
        self.connected = False
        self._failures += 1
        self._outbox.failed()

    async def _pause(self) -> None:
        settings = self._settings
        if self._failures:
            longest = min(settings.back_off_most_seconds, settings.back_off_seconds * 2 ** min(self._failures - 1, 16))
            await asyncio.sleep(longest * random.uniform(0.5, 1.0))  # noqa: S311 - so that many do not come at once
            return
        try:
            async with asyncio.timeout(settings.tick_seconds):
                await self._poke.wait()
        except TimeoutError:
            return
