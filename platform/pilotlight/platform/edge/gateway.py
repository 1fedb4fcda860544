"""`pilotlight activator`: the activator over a cluster, until it is told to end and its streams have ended."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from pilotlight.activator.activator import Activator
from pilotlight.activator.settings import Settings as Limits
from pilotlight.platform.clock import SystemClock
from pilotlight.platform.database.connection import Database
from pilotlight.platform.database.records import Keys
from pilotlight.platform.database.usage import UsageRows
from pilotlight.platform.dispatch import App, Receive, Scope, Send
from pilotlight.platform.edge.failopen import FailOpen
from pilotlight.platform.edge.listening import Listeners
from pilotlight.platform.edge.routing import Router
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
from pilotlight.platform.link.wire import Shares
from pilotlight.platform.settings import allowed_buckets
from pilotlight.platform.shelf import Shelf

LEDGER_SECONDS = 60.0
"""How long a database that is away is waited for at the end: what is left of the ledger goes with the pod."""
KEYS_SECONDS = 2.0
TLS_SECONDS = 1.0
"""Between two looks for the certificates, which the first operator makes."""

log = structlog.get_logger(__name__)


class Gateway:
    """Every part, in the order in which they need each other. Needs the API server and the certificates to begin with;
    nothing that goes away later."""

    def __init__(self, settings: ActivatorSettings, api: Api) -> None:
        """Blocks until the certificates are there."""
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._shares = Shares()
        self._ending = False
        clock = SystemClock()
        self._database = Database(settings.database_url.get_secret_value(), wait=False)
        self._keyring = Keyring(Keys(self._database), clock)
        self._ledger = Ledger(
            settings.state / "ledger", UsageRows(self._database), spool_bytes=settings.spool_bytes, clock=clock
        )
        tls = client_context(settings.tls)
        self._reporter = Reporter(settings.pod_name, settings.control_url, tls, clock, self._ledger.cause)
        self._forwarder = Forwarder(settings.control_url, tls)
        limits = Limits(queue_total=max(Limits.queue_total, settings.max_held))
        self._activator = Activator(self._keyring, self._reporter, self._ledger, clock, limits)
        self._functions = Mirror(api, FUNCTION, self._news)
        self._slices = Mirror(api, ENDPOINT_SLICE, self._news, labels=FUNCTION_LABEL)
        self._ingresses = Mirror(api, INGRESS, self._news, labels=FUNCTION_LABEL)
        shelf = Shelf("s3", settings.state / "tokenizers", allowed_buckets())
        self._router = Router(
            self._activator,
            self._functions,
            self._slices,
            self._ingresses,
            Tokenizers(shelf, clock, lambda: self._news(Key("", ""))),
            EngineKeys(settings.master_key.get_secret_value()),
            lambda function, limit: self._shares.bound(function, limit),
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
        self._listeners = Listeners(self._app(), self._inside(), settings, api, self._ingresses)

    async def run(self) -> None:
        """Until a signal, and then until what is in hand has ended."""
        self._loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, ended.set)
        await self._activator.start()
        await self._forwarder.start()
        self._reporter.on_shares(self._share)
        for mirror in (self._functions, self._slices, self._ingresses):
            mirror.start()
        await self._reporter.start(self._activator)
        work = asyncio.create_task(self._work())
        try:
            await asyncio.wait([work, asyncio.create_task(ended.wait())], return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            self._ending = True
            log.info("ending", grace_seconds=self._settings.grace_seconds)
            await self._activator.drain(self._settings.shutdown_seconds, self._settings.grace_seconds)
        finally:
            await self._close(work)

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for part in (self._router.run(), self._fail_open.run(), self._keys_forever(), self._listeners.serve()):
                tasks.create_task(part)

    async def _close(self, work: asyncio.Task[None]) -> None:
        await self._activator.close()
        await self._listeners.close()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        for mirror in (self._functions, self._slices, self._ingresses):
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

    def _news(self, _key: Key) -> None:
        """From a mirror's thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._router.poke)

    def _share(self, shares: Shares) -> None:
        if shares != self._shares:
            self._shares = shares
            self._router.poke()

    # The surface

    def _app(self) -> App:
        """Requests of functions, by path or by host, are the activator's; all else is the leader's."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await (self._activator.app if self._is_hot(scope) else self._forwarder)(scope, receive, send)

        return app

    def _inside(self) -> App:
        async def healthy(_: Request) -> Response:
            return PlainTextResponse("ok\n")

        async def ready(_: Request) -> Response:
            missing = self._missing()
            return PlainTextResponse(f"{missing or 'ready'}\n", 503 if missing else 200)

        async def metrics(_: Request) -> Response:
            return Response(generate_latest(self._activator.metrics.registry), media_type=CONTENT_TYPE_LATEST)

        return Starlette(routes=[Route("/healthz", healthy), Route("/readyz", ready), Route("/metrics", metrics)])

    def _is_hot(self, scope: Scope) -> bool:
        if scope["type"] != "http":
            return False
        path = scope["path"]
        if path.startswith(("/v1/", "/f/")) or path in ("/v1", "/f"):
            return True
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        return self._activator.serves_host(host.decode("latin-1"))

    def _missing(self) -> str:
        if self._ending:
            return "it ends"
        if not all(mirror.synced for mirror in (self._functions, self._slices, self._ingresses)):
            return "the API server has not been read yet"
        return "" if self._keyring.known else "the keys have not been read yet"


async def serve(settings: ActivatorSettings) -> None:
    """Raises KubernetesError when there is no cluster."""
    os.umask(0o077)
    api = await asyncio.to_thread(Api.connect)
    gateway: Gateway | None = None
    while gateway is None:
        try:
            gateway = await asyncio.to_thread(Gateway, settings, api)
        except TlsError as error:
            log.info("waits for its certificates, which the operator makes", error=str(error))
            await asyncio.sleep(TLS_SECONDS)
    await gateway.run()
