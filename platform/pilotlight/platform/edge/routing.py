"""Keeping the activator's routes current: functions and pods as the API server shows them, starts as pods tell them.

While the API server is away the last view is served from. Changes of one moment are taken together; what has not
changed costs nothing, and keeps its `Route` object.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Protocol

import structlog

from pilotlight.activator.values import Clock, FunctionId, Route
from pilotlight.platform.edge.belongings import Belongings
from pilotlight.platform.edge.tokenizers import Tokenizers
from pilotlight.platform.edge.views import View, endpoints, route_of, starting
from pilotlight.platform.kubernetes.kinds import Key
from pilotlight.platform.kubernetes.knative.ingress import is_ours
from pilotlight.platform.kubernetes.knative.rules import read
from pilotlight.platform.kubernetes.mirror import Objects
from pilotlight.platform.kubernetes.probing import Prober, Target
from pilotlight.platform.kubernetes.status import read_published, read_refused
from pilotlight.platform.link.wire import Shares

GATHER_SECONDS = 0.01
"""Changes that come within it are applied together; part of every cold start."""
TOGETHER = 200
"""Functions looked at in one turn of the event loop: requests go on between, whatever has changed for all of them."""
REFRESH_SECONDS = 1.0
"""Estimates move, and what failed is due again, even when nothing is told."""

log = structlog.get_logger(__name__)


class Traffic(Protocol):
    def change(self, routes: Mapping[FunctionId, Route | None]) -> None:
        """Functions whose routes have changed; None: it is gone."""


class Router:
    """All of it is the event loop's. What is told by keys is looked up in the mirrors."""

    def __init__(
        self,
        traffic: Traffic,
        functions: Objects,
        slices: Objects,
        ingresses: Objects,
        tokenizers: Tokenizers,
        engine_key: Callable[[str, str], str],
        clock: Clock,
    ) -> None:
        self._traffic = traffic
        self._functions = functions
        self._slices = Belongings(slices)
        self._ingresses = Belongings(ingresses)
        self._tokenizers = tokenizers
        self._engine_key = engine_key
        self._clock = clock
        self._shares = Shares()
        self._prober = Prober(self.poke)
        self._aimed: frozenset[str] = frozenset()
        self._poke = asyncio.Event()
        self._changed: set[Key] = set()
        self._restless: set[Key] = set()
        """Functions that change without being told of."""
        self._routes: dict[FunctionId, Route] = {}
        self.views: dict[FunctionId, View] = {}

    # News

    def function_changed(self, key: Key) -> None:
        self._change({key})

    def slice_changed(self, key: Key) -> None:
        self._change(self._slices.look(key))

    def ingress_changed(self, key: Key) -> None:
        self._change(self._ingresses.look(key))

    def shares_changed(self, shares: Shares) -> None:
        """This activator's part of the bounds of waiting requests is another one."""
        before, self._shares = self._shares, shares
        if shares.activators != before.activators:
            self._change({Key(*name) for name in self.views})
        else:
            self._change({Key(*name) for name, _ in before.by_function.items() ^ shares.by_function.items()})

    def poke(self) -> None:
        """A pod that starts, or a tokenizer that is fetched, has news."""
        self._poke.set()

    def _change(self, functions: set[Key]) -> None:
        self._changed |= functions
        if functions:
            self._poke.set()

    # Work

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
            await self.settle()

    async def look_at_all(self) -> None:
        """Take in everything there is; from then on what is told is enough."""
        self._slices.look_at_all()
        self._ingresses.look_at_all()
        self._changed |= self._functions.objects.keys() | {Key(*name) for name in self.views}
        await self.settle()

    async def settle(self) -> None:
        """Refresh until nothing is left that was told."""
        self.refresh()
        while self._changed:
            await asyncio.sleep(0)
            self.refresh()

    def refresh(self) -> None:
        """Look at what may have changed, or the first part of it, and tell the activator what has."""
        part = set(islice(self._changed, TOGETHER))
        self._changed -= part
        news = [FunctionId(*key) for key in part | self._restless if self._look(key)]
        self._aim()
        if news:
            self._traffic.change({name: self._routes.get(name) for name in news})

    async def close(self) -> None:
        await self._prober.close()
        self._tokenizers.close()

    def _look(self, key: Key) -> bool:
        """True: its route is another one than before."""
        try:
            view = self._view(key)
            route = self._route(view) if view is not None else None
        except Exception:  # what one object makes fail must not take the others with it
            log.exception("a route cannot be made; the last one stays", function=str(key))
            return False
        name, before = FunctionId(*key), self._routes.get(FunctionId(*key))
        if view is None or route is None:
            self._restless.discard(key)
            self.views.pop(name, None)
            return self._routes.pop(name, None) is not None
        self.views[name] = view
        (self._restless.add if self._is_restless(view) else self._restless.discard)(key)
        if route == before and not route.starts:
            return False
        self._routes[name] = route
        return True

    def _view(self, key: Key) -> View | None:
        function = self._functions.get(*key)
        if function is None or "deletionTimestamp" in function["metadata"]:
            return None
        told = read_published(function) or read_refused(function, self._clock.now())
        if told is None:
            return None
        name, found = FunctionId(*key), endpoints(self._slices.of(key))
        return View(
            function=name,
            published=told,
            endpoints={each.revision: found.get(Key(key.namespace, each.revision), []) for each in told.all()},
            tokenizers={each.revision: self._tokenizers.folder(each.source) for each in told.all()},
            queue_limit=self._shares.bound(name, told.max_held),
            hosts=tuple(rule for each in self._ingresses.of(key) if is_ours(each) for rule in read(each).hosts),
        )

    def _route(self, view: View) -> Route:
        keys = {revision: self._engine_key(view.function.namespace, revision) for revision in view.endpoints}
        return route_of(view, self._prober.said, keys, self._clock.now())

    def _is_restless(self, view: View) -> bool:
        told = view.published.all()
        return any(each.failure or self._tokenizers.awaits(each.source) for each in told) or bool(starting(view))

    def _aim(self) -> None:
        """What a pod has said of itself counts until Kubernetes calls it ready: from then on that does."""
        targets = {
            endpoint.pod: Target(endpoint.ip, self._engine_key(key.namespace, revision))
            for key in self._restless
            for revision, endpoint in starting(self.views[FunctionId(*key)])
        }
        self._prober.aim(targets)
        for pod in self._aimed - targets.keys():
            self._prober.forget(pod)
        self._aimed = frozenset(targets)
