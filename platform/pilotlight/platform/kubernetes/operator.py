"""`pilotlight operator`: waits to lead, leads until it is told to end or loses the lease, and says how it is."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

import structlog
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from pilotlight.platform.api.metrics import exposition
from pilotlight.platform.api.metrics import registry as fleet_metrics
from pilotlight.platform.clock import SystemClock
from pilotlight.platform.database.connection import DatabaseError
from pilotlight.platform.keys import SecretError
from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.election import Election
from pilotlight.platform.kubernetes.errors import KubernetesError, NotFoundError
from pilotlight.platform.kubernetes.kinds import POD
from pilotlight.platform.kubernetes.leader import Leader
from pilotlight.platform.kubernetes.metrics import registry as operator_metrics
from pilotlight.platform.kubernetes.settings import OperatorSettings
from pilotlight.platform.kubernetes.trust import Trust
from pilotlight.platform.link.certificates import CertificateError
from pilotlight.platform.link.server import link_server
from pilotlight.platform.link.tls import server_context
from pilotlight.platform.listening import Server, listen

LEASE = "pilotlight-operator"
LEADER_LABEL = "pilotlight.dev/leader"
"""On the pod that leads; the Service `pilotlight-control` goes to it."""
RETRY_SECONDS = 2.0
LABEL_SECONDS = 30.0
RENEW_SECONDS = 3600.0
"""Between two looks at the certificates."""

log = structlog.get_logger(__name__)


class LostError(Exception):
    """Another operator may lead now."""


class Operator:
    """One process."""

    def __init__(self, settings: OperatorSettings, api: Api) -> None:
        self._settings = settings
        self._api = api
        self._clock = SystemClock()
        self._won, self._lost, self._ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._state = "waits to lead"
        self._leader: Leader | None = None
        self._trust = Trust(api, settings.namespace, settings.state / "tls", _names(settings.namespace), self._clock)

    async def run(self) -> None:
        """Until a signal. Raises LostError."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._ended.set)
        app = health_app(self._health, self._metrics)
        health = _health_server(app, self._settings.host, self._settings.health_port)
        serving = asyncio.create_task(health.serve())
        election = Election(
            self._api,
            self._settings.namespace,
            LEASE,
            self._settings.pod_name,
            self._clock,
            _from_thread(loop, self._won.set),
            _from_thread(loop, self._lost.set),
        )
        try:
            with suppress(KubernetesError):  # of an earlier life in the same pod; who leads is labelled anew
                await self._label(None)
            election.start()
            if await _first(self._won, self._ended) is self._won:
                await self._lead()
        finally:
            await asyncio.to_thread(election.close)
            health.should_exit = True
            await serving

    async def _lead(self) -> None:
        leader = await self._begun()
        if leader is None:
            return
        listener = listen(self._settings.host, self._settings.control_port)
        server = link_server(leader.app(), server_context(self._settings.state / "tls"))
        work = asyncio.create_task(self._work(leader, server, listener))
        over = asyncio.create_task(_first(self._lost, self._ended))
        try:
            self._state = "leads"
            self._leader = leader
            await asyncio.wait([work, over], return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            if self._lost.is_set():
                raise LostError
        finally:
            self._state = "ends"
            self._leader = None
            # First: the API server may be what is away, and another one leads soon.
            work.cancel()
            over.cancel()
            await asyncio.gather(work, over, return_exceptions=True)
            with suppress(KubernetesError):
                await self._label(None)
            listener.close()
            await leader.close()

    async def _begun(self) -> Leader | None:
        """A leader with everything read; what it needs may be away for a while. None: told to end before."""
        while not self._ended.is_set() and not self._lost.is_set():
            leader: Leader | None = None
            try:
                await asyncio.to_thread(self._trust.refresh)
                leader = await asyncio.to_thread(Leader, self._settings, self._api)
                await leader.start(asyncio.get_running_loop())
            except (CertificateError, DatabaseError, KubernetesError, SecretError) as error:
                self._state = f"waits: {error}"
                log.error("cannot lead yet", error=str(error))
                if leader is not None:
                    await leader.close()
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return leader
        return None

    async def _work(self, leader: Leader, server: Server, listener: socket.socket) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(leader.run())
            tasks.create_task(server.serve(sockets=[listener]))
            tasks.create_task(self._renew())
            tasks.create_task(self._keep_label())

    async def _keep_label(self) -> None:
        """Until the API server takes it, and again should somebody remove it."""
        while True:
            try:
                await self._label("true")
                await asyncio.sleep(LABEL_SECONDS)
            except KubernetesError as error:
                log.error("cannot be found as leader yet", error=str(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                await asyncio.to_thread(self._trust.refresh)
            except (CertificateError, KubernetesError) as error:
                log.error("certificates could not be looked at", error=str(error))

    async def _label(self, value: str | None) -> None:
        """So that the Service leads here, or no more; outside of a cluster there is no pod of ours."""
        body = {"metadata": {"labels": {LEADER_LABEL: value}}}
        try:
            await asyncio.to_thread(self._api.patch, POD, self._settings.namespace, self._settings.pod_name, body)
        except NotFoundError:
            log.info("no pod of this name; the Service must lead here by other means", pod=self._settings.pod_name)

    def _health(self) -> str:
        return self._state

    def _metrics(self) -> bytes:
        leader = self._leader
        own = operator_metrics(lambda: leader.hub if leader else None, lambda: self._api.calls)
        fleet = (fleet_metrics(lambda: leader.controller.known),) if leader else ()
        return exposition((own, *fleet))


async def serve(settings: OperatorSettings) -> None:
    """Raises LostError, KubernetesError."""
    os.umask(0o077)
    await Operator(settings, Api.connect()).run()


def _names(namespace: str) -> tuple[str, ...]:
    """Under which activators call whoever leads."""
    service = f"pilotlight-control.{namespace}.svc"
    return (service, f"{service}.cluster.local", "pilotlight-control", "localhost", "127.0.0.1")


def _from_thread(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> Callable[[], None]:
    def poke() -> None:
        loop.call_soon_threadsafe(call)

    return poke


async def _first(*events: asyncio.Event) -> asyncio.Event:
    tasks = {asyncio.create_task(event.wait()): event for event in events}
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return tasks[done.pop()]


def health_app(state: Callable[[], str], metrics: Callable[[], bytes]) -> Starlette:
    """What probes and scrapers ask; open to the cluster's own alone."""

    async def healthy(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def ready(_: Request) -> Response:
        return PlainTextResponse(f"{state()}\n")

    async def measured(_: Request) -> Response:
        return Response(metrics(), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/healthz", healthy), Route("/readyz", ready), Route("/metrics", measured)])


def _health_server(app: Starlette, host: str, port: int) -> Server:
    config = uvicorn.Config(app, host=host, port=port, lifespan="off", access_log=False, log_config=None, ws="none")
    return Server(config)
