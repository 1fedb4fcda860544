"""`pilotlight up`: the embedded platform, put together and run until a signal."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import structlog

from pilotlight.activator.activator import Activator
from pilotlight.activator.settings import Settings as ActivatorSettings
from pilotlight.activator.values import FunctionId
from pilotlight.platform.api.app import make_app
from pilotlight.platform.api.metrics import registry as fleet_metrics
from pilotlight.platform.api.registry import model_routes
from pilotlight.platform.api.services import Services
from pilotlight.platform.clock import SystemClock
from pilotlight.platform.control.controller import Controller, LoopSettings, Stores
from pilotlight.platform.control.deploying import Deployer
from pilotlight.platform.control.specs import SpecSettings
from pilotlight.platform.control.world import Room
from pilotlight.platform.database.connection import Database
from pilotlight.platform.database.functions import Functions
from pilotlight.platform.database.recommendations import Recommendations
from pilotlight.platform.database.records import Keys, Records
from pilotlight.platform.database.replicas import Replicas
from pilotlight.platform.database.usage import UsageRows
from pilotlight.platform.dispatch import App, dispatcher
from pilotlight.platform.embedded.cluster import EmbeddedCluster
from pilotlight.platform.embedded.machine import look
from pilotlight.platform.keys import Keyring
from pilotlight.platform.ledger.ledger import ENDED, Ledger
from pilotlight.platform.listening import doors, listen, server
from pilotlight.platform.logging import log_to_stderr
from pilotlight.platform.recommending.advising import Advisor
from pilotlight.platform.settings import Settings, allowed_buckets, registry_address
from pilotlight.platform.shelf import Shelf
from pilotlight.platform.statefolder import StateFolder
from pilotlight.recommender import Machine

THREADS = 32
STOP_SECONDS = 15.0
"""How long replicas may take to be gone after they were stopped."""

log = structlog.get_logger(__name__)


def run(settings: Settings, announce: Callable[[str], None] = lambda _url: None) -> None:
    """Run until SIGINT or SIGTERM. `announce` is called with the address once it answers.

    Raises StateFolderError when another platform has the state folder, OSError when the port is taken.
    """
    log_to_stderr()
    os.umask(0o077)  # the database holds engine keys, the logs what callers sent
    folder = StateFolder(settings.state)
    try:
        listener = listen(settings.host, settings.port)
        with listener:
            runner = asyncio.Runner(loop_factory=_loop_factory())
            with runner:
                runner.run(_serve(settings, folder, listener, announce))
    finally:
        folder.close()


class Platform:
    """Every part of an embedded platform, in the order in which they need each other."""

    def __init__(self, settings: Settings, state: Path, machine: Machine) -> None:
        self.settings = settings
        self.clock = SystemClock()
        self.database = Database.at(state / "pilotlight.db")
        self.stores = Stores(Functions(self.database), Replicas(self.database), Records(self.database))
        self.usage = UsageRows(self.database)
        self.keyring = Keyring(Keys(self.database), self.clock)
        self.keyring.ensure_admin(state / "admin.key")
        # Nobody else writes here: what still runs in the ledger has lost its process, even where the journal is gone.
        self.usage.close_abandoned(self.clock.now(), ENDED, after=0.0)
        self.ledger = Ledger(state / "ledger", self.usage)
        self.shelf = Shelf(registry_address(settings), state / "tokenizers", allowed_buckets())
        self.cluster = EmbeddedCluster(state / "replicas")
        wakers = _Wakers()
        self.activator = Activator(self.keyring, wakers, self.ledger, self.clock, _activator_settings(settings))
        self.controller = wakers.controller = Controller(
            self.cluster,
            self.stores,
            self.activator,
            self.ledger.cause,
            self.clock,
            LoopSettings(_room(machine), _spec_settings(settings, state), settings.max_held, settings.hold_seconds),
        )
        self.recommendations = Recommendations(self.database)
        self.advisor = Advisor(self.controller.follower, self.recommendations, self.stores.records, self.clock)
        self.machine = machine
        self.ending = False

    def app(self, loop: asyncio.AbstractEventLoop) -> App:
        """The whole of it on one port."""

        def changed() -> None:
            loop.call_soon_threadsafe(self.controller.changed)

        deployer = Deployer(
            self.stores.functions,
            self.shelf,
            lambda: self.machine,
            self.clock,
            changed,
        )
        services = Services(
            functions=self.stores.functions,
            replicas=self.stores.replicas,
            records=self.stores.records,
            recommendations=self.recommendations,
            usage=self.usage,
            keyring=self.keyring,
            deployer=deployer,
            shelf=self.shelf,
            cluster=self.cluster,
            loop=self.controller,
            settle=self.ledger.flush,
            demand=self.activator.demand,
            clock=self.clock,
        )
        registries = (self.activator.metrics.registry, fleet_metrics(lambda: self.controller.known))
        control = make_app(services, self.keyring, registries, self._missing, model_routes(services))
        return dispatcher(self.activator.app, control)

    async def start(self) -> asyncio.Task[None]:
        """Adopt what is there and begin the control loop; nothing is served before, so ready follows at once."""
        await self.activator.start()
        await self.controller.adopt()
        await self.controller.round()
        return asyncio.create_task(self._run(), name="control loop")

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.controller.run())
            tasks.create_task(self.advisor.run())

    async def stop(self, loop: asyncio.Task[None]) -> None:
        """Streams finish for a while, then everything ends, the replicas too."""
        self.ending = True
        await self.activator.drain(self.settings.shutdown_seconds)
        await self.activator.close()
        loop.cancel()
        with suppress(asyncio.CancelledError):
            await loop
        await self.controller.close(STOP_SECONDS)

    def close(self) -> None:
        self.ledger.close()
        self.database.close()

    def _missing(self) -> str:
        return "the platform ends" if self.ending else ""


class _Wakers:
    """The activator needs its waker before the control loop that needs the activator."""

    controller: Controller

    def wake(self, function: FunctionId) -> None:
        self.controller.wake(function)

    def lost(self, function: FunctionId, replica: str, reason: str) -> None:
        self.controller.lost(function, replica, reason)


async def _serve(
    settings: Settings, folder: StateFolder, listener: socket.socket, announce: Callable[[str], None]
) -> None:
    loop = asyncio.get_running_loop()
    # The default has cpus + 4 threads: a few slow answers of a model store would hold up the control loop's own work.
    loop.set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="platform"))
    platform = Platform(settings, folder.path, await asyncio.to_thread(look, settings.memory_bytes))
    ended = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, ended.set)
    control = await platform.start()
    serves = server(platform.app(loop))
    serving = asyncio.create_task(serves.serve(sockets=doors(listener)))
    try:
        url = _url(settings.host, listener)
        folder.announce(url)
        announce(url)
        await asyncio.wait([serving, control, asyncio.create_task(ended.wait())], return_when=asyncio.FIRST_COMPLETED)
        log.info("ending", url=url)
        await platform.stop(control)
    finally:
        serves.should_exit = True
        await serving
        await asyncio.to_thread(platform.close)


def _room(machine: Machine) -> Room:
    return Room(machine.memory_bytes, machine.cpus, {device.uuid: device.memory_bytes for device in machine.devices})


def _activator_settings(settings: Settings) -> ActivatorSettings:
    """One function may have all of what may wait, where more is allowed than usually for all together."""
    return ActivatorSettings(queue_total=max(ActivatorSettings.queue_total, settings.max_held))


def _spec_settings(settings: Settings, state: Path) -> SpecSettings:
    return SpecSettings(
        cache_folder=str(state / "cache"),
        cache_bytes=settings.cache_bytes,
        start_seconds=settings.start_seconds,
        drain_seconds=settings.drain_seconds,
        orphan_seconds=settings.orphan_seconds,
    )


def _url(host: str, listener: socket.socket) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    import uvloop

    return uvloop.new_event_loop
