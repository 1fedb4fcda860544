"""Starting a first replica without the operator: whoever waits at zero must not wait for a leader that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import structlog

from pilotlight.activator.values import Clock, Demand, FunctionId
from pilotlight.platform.control.cluster import RevisionId
from pilotlight.platform.edge.views import View
from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.errors import InvalidError, KubernetesError
from pilotlight.platform.kubernetes.kinds import DEPLOYMENT, Key
from pilotlight.platform.kubernetes.knative.names import deployment_name

LOOK_SECONDS = 1.0
FROM_ZERO_TO_ONE: Sequence[Mapping[str, Any]] = [
    # The API server leaves a count of zero out of a scale.
    {"op": "test", "path": "/spec", "value": {}},
    {"op": "add", "path": "/spec/replicas", "value": 1},
]

log = structlog.get_logger(__name__)


def waiting(demand: Demand) -> Iterator[str]:
    """Revisions that requests wait for."""
    return (part.revision for part in demand.per_revision if part.queued)


def stranded(view: View, revision: str, waited: float, silent: float, patience: float) -> bool:
    """Whether nobody does anything about requests that wait for a revision at zero. Pure.

    Args:
        view: What is known of the function.
        revision: The one that they wait for.
        waited: How long requests have waited without any pod to be seen, seconds.
        silent: How long the operator has not answered, seconds.
        patience: What either may take. A leader that answers and starts nothing (its database is away) gets twice that.
    """
    told = next((each for each in view.published.all() if each.revision == revision), None)
    if told is None or told.failure or told.autoscaler != "pilotlight" or view.endpoints.get(revision):
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
        """`demand`: of functions that requests wait for; `silent`: how long the operator has not answered, seconds."""
        self._api = api
        self._views = views
        self._demand = demand
        self._silent = silent
        self._clock = clock
        self._patience = patience
        self._since: dict[RevisionId, float] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Start what is stranded just now, each revision once in as long as the patience lasts."""
        now, views = self._clock.monotonic(), self._views()
        held = {
            RevisionId(name, revision): view
            for name, demand in self._demand().items()
            if (view := views.get(name)) is not None
            for revision in waiting(demand)
        }
        self._since = {at: self._since.get(at, now) for at, view in held.items() if not view.endpoints.get(at.name)}
        silent = self._silent()
        due = [
            at for at, since in self._since.items() if stranded(held[at], at.name, now - since, silent, self._patience)
        ]
        self._since |= dict.fromkeys(due, now)
        await asyncio.gather(*(asyncio.to_thread(self._start, Key(at.function.namespace, at.name)) for at in due))

    def _start(self, revision: Key) -> None:
        """From zero to one; a Deployment that has replicas already is left as it is."""
        try:
            self._api.patch(DEPLOYMENT, revision.namespace, deployment_name(revision.name), FROM_ZERO_TO_ONE, "scale")
            log.warning("first replica started without the operator", revision=str(revision))
        except InvalidError:
            log.info("a replica was asked for already", revision=str(revision))
        except KubernetesError as error:
            log.warning("no replica could be started without the operator", revision=str(revision), error=str(error))
