"""Keeping the activator's routes current: functions and pods as the API server shows them, starts as pods tell them.

While the API server is away the last view is served from. Changes of one moment are taken together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from pilotlight.activator.traffic import HostRule
from pilotlight.activator.values import Clock, FunctionId, Route
from pilotlight.platform.edge.tokenizers import Tokenizers
from pilotlight.platform.edge.views import Endpoint, View, endpoints, route_of, starting
from pilotlight.platform.kubernetes.kinds import Key, Object
from pilotlight.platform.kubernetes.knative.reading import IngressRules
from pilotlight.platform.kubernetes.mirror import Mirror
from pilotlight.platform.kubernetes.probing import Prober, Target
from pilotlight.platform.kubernetes.status import read_published, read_refused

GATHER_SECONDS = 0.01
"""Changes that come within it are applied together; part of every cold start."""
REFRESH_SECONDS = 1.0
"""Estimates and shares move even when nothing else does."""

log = structlog.get_logger(__name__)


class Traffic(Protocol):
    def apply(self, routes: Mapping[FunctionId, Route]) -> None:
        """All functions there are; others are gone."""


class Router:
    """All of it is the event loop's; mirrors' threads only poke it."""

    def __init__(
        self,
        traffic: Traffic,
        functions: Mirror,
        slices: Mirror,
        ingresses: Mirror,
        tokenizers: Tokenizers,
        engine_key: Callable[[str, str], str],
        share: Callable[[FunctionId, int], int],
        clock: Clock,
    ) -> None:
        """`share`: this activator's part of a function's bound of waiting requests."""
        self._traffic = traffic
        self._functions = functions
        self._slices = slices
        self._rules = IngressRules(lambda: ingresses.objects)
        self._tokenizers = tokenizers
        self._engine_key = engine_key
        self._share = share
        self._clock = clock
        self._prober = Prober(self.poke)
        self._poke = asyncio.Event()
        self.views: dict[FunctionId, View] = {}

    def poke(self) -> None:
        self._poke.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                async with asyncio.timeout(REFRESH_SECONDS):
                    await self._poke.wait()
                await asyncio.sleep(GATHER_SECONDS)
            except TimeoutError:
                pass
            self._poke.clear()
            try:
                self.refresh()
            except Exception:
                log.exception("routes could not be made; the last ones stay")

    def refresh(self) -> None:
        """Look at everything, and tell the activator."""
        found = endpoints(self._slices.objects.values())
        hosts = self._rules.hosts()
        self.views = {
            view.function: view
            for key, function in self._functions.objects.items()
            if (view := self._view(key, function, found, hosts.get(key, ()))) is not None
        }
        self._aim()
        now = self._clock.now()
        self._traffic.apply({name: self._route(view, now) for name, view in self.views.items()})

    async def close(self) -> None:
        await self._prober.close()
        self._tokenizers.close()

    def _view(
        self, key: Key, function: Object, found: Mapping[Key, list[Endpoint]], hosts: tuple[HostRule, ...]
    ) -> View | None:
        told = read_published(function) or read_refused(function, self._clock.now())
        if told is None or "deletionTimestamp" in function["metadata"]:
            return None
        name = FunctionId(*key)
        pods = {each.revision: found.get(Key(key.namespace, each.revision), []) for each in told.all()}
        tokenizers = {each.revision: self._tokenizers.folder(each.source) for each in told.all()}
        return View(name, told, pods, tokenizers, self._share(name, told.max_held), hosts)

    def _aim(self) -> None:
        self._prober.aim(
            {
                endpoint.pod: Target(endpoint.ip, self._engine_key(view.function.namespace, revision))
                for view in self.views.values()
                for revision, endpoint in starting(view)
            }
        )

    def _route(self, view: View, now: float) -> Route:
        keys = {revision: self._engine_key(view.function.namespace, revision) for revision in view.endpoints}
        return route_of(view, self._prober.said, keys, now)
