"""The activator: a raw ASGI application in front of functions that may be at zero.

Everything runs in one event loop. Decisions are made by pure code (`admission`, `queueing`, `names`, `schema`); `fleet`
applies them to what waits, `serving` and `hands` carry each request, and this module is what a host sees of it all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from pilotlight.activator.app import App
from pilotlight.activator.fleet import Fleet
from pilotlight.activator.forwarding import Upstream
from pilotlight.activator.hands import Hands
from pilotlight.activator.lengths import Lengths
from pilotlight.activator.metrics import Metrics
from pilotlight.activator.serving import Serving
from pilotlight.activator.settings import Settings
from pilotlight.activator.values import Authenticator, Clock, Demand, FunctionId, Meter, Route, Waker

_log = logging.getLogger(__name__)


class Activator:
    """Serve `app`; call `start()` in the event loop that serves it, then `apply()` or `change()` when something does.

    `metrics.registry` is for the host's `/metrics`.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        waker: Waker,
        meter: Meter,
        clock: Clock,
        settings: Settings | None = None,
    ) -> None:
        self._settings = settings if settings is not None else Settings()
        self._fleet = Fleet(waker, clock, self._settings)
        self._lengths = Lengths(self._settings)
        self._upstream = Upstream(self._settings)
        self._ticker: asyncio.Task[None] | None = None
        self.metrics = Metrics(self._fleet.demand)
        self._serving = Serving(self._fleet, self._upstream, clock, self._settings)
        self._hands = Hands(self._fleet, self._serving, meter, self.metrics, clock, self._settings)
        self.app = App(authenticator, self._fleet, self._hands, self._lengths, clock, self._settings)

    async def start(self) -> None:
        """Open what needs the running event loop."""
        self._upstream.open()
        self._ticker = asyncio.create_task(self._tick_forever())

    def apply(self, routes: Mapping[FunctionId, Route]) -> None:
        """All functions as they are now; the same object again is no news. See `change`, which costs less."""
        known = self.app.directory.routes
        fresh = {function: route for function, route in routes.items() if known.get(function) is not route}
        self.change({**dict.fromkeys(known.keys() - routes.keys()), **fresh})

    def change(self, routes: Mapping[FunctionId, Route | None]) -> None:
        """Functions that have changed, None: it is gone; the others are as before, and cost nothing.

        Releases what can be released. Call it in the event loop of `app`.
        """
        self._fleet.change(routes)
        for route in filter(None, routes.values()):
            self._lengths.prepare(route)
        self.app.directory.change(routes)  # last: what broke off before is not known yet, and `apply` brings it again

    def demand(self) -> Mapping[FunctionId, Demand]:
        """Every function's work in hand."""
        return self._fleet.demand()

    def waiting(self) -> Mapping[FunctionId, Demand]:
        """The work in hand of functions that requests wait for; the others cost nothing."""
        return self._fleet.waiting()

    def changes(self) -> Mapping[FunctionId, Demand | None]:
        """The demand of what has changed since the last call, None for what is gone; costs nothing at rest.

        For one caller: what it was told is not told again.
        """
        return self._fleet.changes()

    def serves_host(self, host: str) -> bool:
        """Whether a `Host` header is one of a function's: all of its paths are then for `app`."""
        return self.app.directory.at_host(host) is not None

    async def drain(self, timeout: float, grace_seconds: float = 0.0) -> bool:  # noqa: ASYNC109 - what runs is ended then, not this call
        """Let go of the clients: serve on, refuse new requests, end what is left; what is held is served all the while.

        For `grace_seconds` everything is served, and connections are closed with their answers: clients and the load
        balancer turn to another activator meanwhile. Then new requests are refused, and those in hand may finish for
        `timeout` seconds before they are ended with an error. True: all finished by themselves.
        """
        self.app.leaving = True
        await asyncio.sleep(grace_seconds)
        self.app.draining = True
        try:
            await asyncio.wait_for(self._hands.idle.wait(), timeout)
        except TimeoutError:
            self._hands.end_all()
            await self._hands.idle.wait()
            return False
        return True

    async def close(self) -> None:
        """End what is left and release every resource; a second call does nothing."""
        self.app.draining = True
        self._hands.end_all()
        await self._hands.idle.wait()
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
            self._ticker = None
        await self._upstream.close()
        self._lengths.close()

    def tick(self) -> None:
        """Heartbeats, deadlines, suspects, checkpoints; the activator's own timer calls it."""
        self._serving.remind(self._fleet.tick())
        self._hands.end_stalled()
        self._hands.checkpoint()

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(self._settings.tick_seconds)
            try:
                self.tick()
            except Exception:  # noqa: BLE001 - one bad tick must not end all heartbeats
                _log.exception("a tick failed; the next one is due in %s s", self._settings.tick_seconds)
