"""Starting a first replica without the operator: whoever waits at zero must not wait for a leader that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from pilotlight.activator.values import Clock, Demand, FunctionId
from pilotlight.platform.edge.views import View
from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.errors import KubernetesError
from pilotlight.platform.kubernetes.kinds import DEPLOYMENT, Key
from pilotlight.platform.kubernetes.knative.names import deployment_name

LOOK_SECONDS = 1.0

log = structlog.get_logger(__name__)


def stranded(view: View, demand: Demand, waited: float, silent: float, patience: float) -> bool:
    """Whether requests wait at a function at zero, and nobody does anything about it. Pure.

    Args:
        view: What is known of the function.
        demand: Its work in hand here.
        waited: How long requests have waited without any pod to be seen, seconds.
        silent: How long the operator has not answered, seconds.
        patience: What either may take. A leader that answers and starts nothing (its database is away) gets twice that.
    """
    told = view.published
    if not demand.queued or told.failure or told.autoscaler != "pilotlight" or view.endpoints.get(told.revision):
        return False
    return waited >= (patience if silent >= patience else 2 * patience)


class FailOpen:
    """All of it is the event loop's but the patch itself."""

    def __init__(
        self,
        api: Api,
        views: Callable[[], Mapping[FunctionId, View]],
        demand: Callable[[], Mapping[FunctionId, Demand]],
        silent: Callable[[], float],
        clock: Clock,
        patience: float,
    ) -> None:
        """`silent`: how long the operator has not answered, seconds."""
        self._api = api
        self._views = views
        self._demand = demand
        self._silent = silent
        self._clock = clock
        self._patience = patience
        self._since: dict[FunctionId, float] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        now, demands = self._clock.monotonic(), self._demand()
        waiting = {name for name, demand in demands.items() if demand.queued}
        self._since = {name: self._since.get(name, now) for name in waiting}
        for name, view in self._views().items():
            if name not in waiting:
                continue
            if view.endpoints.get(view.published.revision):
                self._since[name] = now
            elif stranded(view, demands[name], now - self._since[name], self._silent(), self._patience):
                self._since[name] = now  # the next try after as long again
                await asyncio.to_thread(self._start, Key(name.namespace, view.published.revision))

    def _start(self, revision: Key) -> None:
        """From zero to one; a Deployment that has replicas already is left as it is."""
        name = deployment_name(revision.name)
        body = [
            {"op": "test", "path": "/spec/replicas", "value": 0},
            {"op": "replace", "path": "/spec/replicas", "value": 1},
        ]
        try:
            self._api.patch(DEPLOYMENT, revision.namespace, name, body, "scale")
            log.warning("first replica started without the operator", revision=str(revision))
        except KubernetesError as error:
            log.warning("no replica could be started without the operator", revision=str(revision), error=str(error))
