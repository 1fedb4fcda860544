"""The activator's ports: HTTP, HTTPS with certificates that change while it runs, and one for probes and metrics."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

import structlog

from pilotlight.activator.tls import BadCertificateError, Certificates
from pilotlight.platform.dispatch import App
from pilotlight.platform.edge.certificates import Source, Wanted
from pilotlight.platform.edge.surface import redirecting
from pilotlight.platform.kubernetes.settings import ActivatorSettings
from pilotlight.platform.listening import Server, doors, listen, server

LOOK_SECONDS = 30.0
"""Between two looks for certificates; a changed ingress has its own at once."""
GATHER_SECONDS = 0.5
"""Ingresses that change within it cost one look."""

log = structlog.get_logger(__name__)


class Listeners:
    """`open`, then `serve` until cancelled; HTTPS begins as soon as there is a certificate."""

    def __init__(self, app: App, inside: App, settings: ActivatorSettings, source: Source) -> None:
        """`inside`: probes and metrics, for the cluster's own."""
        self._app = app
        self._inside = inside
        self._settings = settings
        self._source = source
        self._certificates: Certificates | None = None
        self._redirected: frozenset[str] = frozenset()
        self._changed = asyncio.Event()
        self._listening: list[tuple[Server, socket.socket]] = []
        self._serving: list[asyncio.Task[None]] = []

    def open(self) -> None:
        """Raises OSError when a port is taken."""
        host = self._settings.host
        plain = redirecting(self._app, lambda: self._redirected)
        for app, port in ((plain, self._settings.http_port), (self._inside, self._settings.health_port)):
            self._listening.append((server(app), listen(host, port)))

    async def serve(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for runs, listener in self._listening:
                self._serving.append(tasks.create_task(runs.serve(sockets=doors(listener))))
            tasks.create_task(self._https(tasks))

    def changed(self) -> None:
        """An ingress has changed, which may name another certificate."""
        self._changed.set()

    async def close(self) -> None:
        """Nothing new is taken; answers in hand may end, see `listening.server`."""
        for runs, _ in self._listening:
            runs.should_exit = True
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _https(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            wanted = await asyncio.to_thread(self._source.read)
            try:
                if self._use(wanted):
                    self._begin(tasks)
            except BadCertificateError as error:
                log.error("no HTTPS yet", error=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._changed.wait()
                await asyncio.sleep(GATHER_SECONDS)
            self._changed.clear()

    def _use(self, wanted: Wanted) -> bool:
        """True: these are the first ones. Raises BadCertificateError for those."""
        first = self._certificates is None
        if wanted.default is None:
            return False
        if self._certificates is None:
            self._certificates = Certificates(wanted.default)
        for refused in self._certificates.replace(wanted.default, wanted.hosts):
            log.error("certificate refused", host=refused.host, error=str(refused))
        self._redirected = wanted.redirected
        return first

    def _begin(self, tasks: asyncio.TaskGroup) -> None:
        assert self._certificates is not None, "_use comes first"
        runs = server(self._app, self._certificates.ssl_context())
        listener = listen(self._settings.host, self._settings.https_port)
        self._listening.append((runs, listener))
        self._serving.append(tasks.create_task(runs.serve(sockets=doors(listener))))
