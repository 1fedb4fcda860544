"""`pilotlight activator`: the activator over a cluster, until it is told to end and its streams have ended."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from collections.abc import Callable
from contextlib import suppress

import structlog

from pilotlight.activator.activator import Activator
from pilotlight.activator.settings import Settings as Limits
from pilotlight.platform.clock import SystemClock
from pilotlight.platform.database.connection import Database
from pilotlight.platform.database.records import Keys
from pilotlight.platform.database.usage import UsageRows
from pilotlight.platform.edge.certificates import Source
from pilotlight.platform.edge.failopen import FailOpen
from pilotlight.platform.edge.listening import Listeners
from pilotlight.platform.edge.routing import Router
from pilotlight.platform.edge.surface import inside, outside
from pilotlight.platform.edge.tokenizers import Tokenizers
from pilotlight.platform.keys import Keyring
from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.kinds import ENDPOINT_SLICE, FUNCTION, FUNCTION_LABEL, INGRESS, Key
from pilotlight.platform.kubernetes.mirror import Mirror
from pilotlight.platform.kubernetes.secrets import EngineKeys
from pilotlight.platform.kubernetes.settings import ActivatorSettings
from pilotlight.platform.ledger.ledger import Ledger
from pilotlight.platform.link.forward import Forwarder
from pilotlight.platform.link.reporter import Reporter
from pilotlight.platform.link.tls import TlsError, client_context
from pilotlight.platform.settings import allowed_buckets
from pilotlight.platform.shelf import Shelf

LEDGER_SECONDS = 60.0
"""How long a database that is away is waited for at the end: what is left of the ledger goes with the pod."""
KEYS_SECONDS = 2.0
TLS_SECONDS = 1.0
"""Between two looks for the certificates, which the first operator makes."""
SYNC_SECONDS = 1.0
"""Between two looks whether this is to end, while the API server has not been read."""
DRAIN_RETRY_SECONDS = 1.0
"""`Retry-After` while draining: another activator answers at once."""

log = structlog.get_logger(__name__)

Tls = Callable[[], ssl.SSLContext]


class Gateway:
    """Every part, in the order in which they need each other. Needs the API server to begin with; nothing that goes
    away later."""

    def __init__(self, settings: ActivatorSettings, api: Api, tls: Tls) -> None:
        """Blocks while the database is asked for keys; `tls`: of the link."""
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._routed = False
        self._ending = False
        clock = SystemClock()
        self._database = Database(settings.database_url.get_secret_value(), wait=False)
        self._keyring = Keyring(Keys(self._database), clock)
        self._ledger = Ledger(
            settings.state / "ledger", UsageRows(self._database), spool_bytes=settings.spool_bytes, clock=clock
        )
        self._reporter = Reporter(settings.pod_name, settings.control_url, tls, clock, self._ledger.cause)
        self._forwarder = Forwarder(settings.control_url, tls)
        limits = Limits(queue_total=max(Limits.queue_total, settings.max_held), drain_retry_seconds=DRAIN_RETRY_SECONDS)
        self._activator = Activator(self._keyring, self._reporter, self._ledger, clock, limits)
        functions = Mirror(api, FUNCTION, lambda key: self._in_loop(self._router.function_changed, key))
        slices = Mirror(
            api, ENDPOINT_SLICE, lambda key: self._in_loop(self._router.slice_changed, key), labels=FUNCTION_LABEL
        )
        ingresses = Mirror(api, INGRESS, lambda key: self._in_loop(self._ingress_changed, key), labels=FUNCTION_LABEL)
        self._mirrors = (functions, slices, ingresses)
        shelf = Shelf("s3", settings.state / "tokenizers", allowed_buckets())
        self._router = Router(
            self._activator,
            functions,
            slices,
            ingresses,
            Tokenizers(shelf, clock, lambda: self._in_loop(self._router.poke)),
            EngineKeys(settings.master_key.get_secret_value()),
            clock,
        )
        self._fail_open = FailOpen(
            api,
            lambda: self._router.views,
            self._activator.waiting,
            lambda: self._reporter.silent_seconds,
            clock,
            settings.fail_open_seconds,
        )
        app = outside(self._activator.app, self._forwarder, self._activator.serves_host, lambda: self._ending)
        source = Source(api, ingresses, settings.certificates, clock)
        self._listeners = Listeners(app, inside(self._activator.metrics.registry, self._missing), settings, source)

    async def run(self) -> None:
        """Until a signal, and then until what is in hand has ended. Raises OSError when a port is taken."""
        self._listeners.open()
        self._loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, ended.set)
        await self._activator.start()
        await self._forwarder.start()
        self._reporter.on_shares(self._router.shares_changed)
        for mirror in self._mirrors:
            mirror.start()
        await self._reporter.start(self._activator)
        work, told = asyncio.create_task(self._work()), asyncio.create_task(ended.wait())
        try:
            await asyncio.wait([work, told], return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            self._ending = True
            log.info("ending", grace_seconds=self._settings.grace_seconds)
            self._reporter.leave()
            await self._activator.drain(self._settings.shutdown_seconds, self._settings.grace_seconds)
        finally:
            told.cancel()
            await self._close(work)

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for part in (self._route(), self._fail_open.run(), self._keys_forever(), self._listeners.serve()):
                tasks.create_task(part)

    async def _route(self) -> None:
        """Only what has been seen as a whole is routed by: a function whose pods are not known yet is no cold one."""
        for mirror in self._mirrors:
            while not await asyncio.to_thread(mirror.wait, SYNC_SECONDS):
                pass
        await self._router.look_at_all()
        self._routed = True
        await self._router.run()

    async def _close(self, work: asyncio.Task[None]) -> None:
        await self._activator.close()
        await self._listeners.close()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        for mirror in self._mirrors:
            mirror.close()
        await self._router.close()
        await self._reporter.close()
        await self._forwarder.close()
        await asyncio.to_thread(self._ledger.close, LEDGER_SECONDS)
        await asyncio.to_thread(self._database.close)

    async def _keys_forever(self) -> None:
        while True:
            await asyncio.sleep(KEYS_SECONDS)
            await asyncio.to_thread(self._keyring.refresh)

    def _ingress_changed(self, key: Key) -> None:
        self._router.ingress_changed(key)
        self._listeners.changed()

    def _in_loop(self, call: Callable[..., None], *arguments: object) -> None:
        """From other threads."""
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(call, *arguments)

    def _missing(self) -> str:
        if self._ending:
            return "it ends"
        if not self._routed:
            return "the API server has not been read yet"
        return "" if self._keyring.known else "the keys have not been read yet"


async def serve(settings: ActivatorSettings) -> None:
    """Raises KubernetesError when there is no cluster, OSError when a port is taken."""
    os.umask(0o077)
    api = await asyncio.to_thread(Api.connect)
    tls = await _certificates(settings)
    gateway = await asyncio.to_thread(Gateway, settings, api, tls)
    await gateway.run()


async def _certificates(settings: ActivatorSettings) -> Tls:
    waits = False
    while True:
        try:
            return await asyncio.to_thread(client_context, settings.tls)
        except TlsError as error:
            if not waits:
                log.info("waits for its certificates, which the operator makes", error=str(error))
            waits = True
            await asyncio.sleep(TLS_SECONDS)
