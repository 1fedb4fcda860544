"""Writing the status of Function objects: the leader's side of what people and activators read.

Implements the control loop's `Traffic`: a round's routes become `status.route`, the demand is what activators report.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import structlog

from pilotlight.activator.values import Clock, Demand, FunctionId, Route
from pilotlight.platform.control.state import Known, Live
from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.applying import Outcome
from pilotlight.platform.kubernetes.errors import ConflictError, KubernetesError, NotFoundError
from pilotlight.platform.kubernetes.kinds import FUNCTION, Key, Object, condition
from pilotlight.platform.kubernetes.mirror import Objects
from pilotlight.platform.kubernetes.status import (
    PENDING,
    TUNED,
    Judgement,
    conditions,
    published,
    ready,
    refusals,
    tuned,
)
from pilotlight.platform.values import Revision
from pilotlight.runtime.spec import ReplicaState

TOGETHER = 8
"""Statuses that are written at once."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Seen:
    """What the status of one function is made of."""

    route: Route | None
    outcome: Outcome | None
    replicas: int
    ready_replicas: int
    waits: str
    leaving: frozenset[str]
    revisions: frozenset[str]
    """That have a share of the traffic, or replicas."""
    retry_at: Mapping[str, float]
    """By revision."""
    problem: str
    """What could not be written for it in the cluster."""
    slots: Mapping[str, int]
    """Requests that one replica takes just now, by revision."""
    recommended: str
    """What should be set otherwise; empty: nothing."""


Look = tuple[Seen, str, str]
"""And the versions of Service and Function that were looked at."""


class Publisher:
    """Everything but writing is the event loop's, so that a look is of one moment."""

    def __init__(
        self,
        api: Api,
        functions: Objects,
        services: Objects,
        outcome: Callable[[Key], Outcome | None],
        demand: Callable[[], Mapping[FunctionId, Demand]],
        clock: Clock,
        refused: Callable[[Object, Mapping[str, Any], float], None] = lambda *_: None,
    ) -> None:
        """
        Args:
            services: Of Knative.
            outcome: What became of an object.
            demand: As the activators report it.
            refused: Told from a thread, once it is written, of each condition of a function that has become false.
        """
        self._api = api
        self._functions = functions
        self._services = services
        self._outcome = outcome
        self._demand = demand
        self._clock = clock
        self._refused = refused
        self._known = Known()
        self._eta: Callable[[FunctionId, str], Mapping[str, float]] = lambda *_: {}
        self._problem: Callable[[FunctionId, Collection[str]], str] = lambda *_: ""
        self._recommended: Callable[[FunctionId], str] = lambda _: ""
        self._routes: Mapping[FunctionId, Route] = {}
        self._written: dict[Key, tuple[Look, ...]] = {}
        """The last look that was written down: as it was, and as it is once the mirror has our write."""
        self._poke = asyncio.Event()
        self._threads = ThreadPoolExecutor(TOGETHER, thread_name_prefix="status")

    def watch(
        self,
        known: Known,
        eta: Callable[[FunctionId, str], Mapping[str, float]],
        problem: Callable[[FunctionId, Collection[str]], str],
        recommended: Callable[[FunctionId], str] = lambda _: "",
    ) -> None:
        """For what a route does not say.

        Args:
            known: The control loop's memory.
            eta: Expected seconds of each phase of a revision's next start.
            problem: What could not be written for a function or some of its revisions, one sentence; empty: nothing.
            recommended: What of a function should be set otherwise; empty: nothing.
        """
        self._known, self._eta, self._problem, self._recommended = known, eta, problem, recommended

    def apply(self, routes: Mapping[FunctionId, Route]) -> None:
        self._routes = routes
        self._poke.set()

    def demand(self) -> Mapping[FunctionId, Demand]:
        return self._demand()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self) -> None:
        """Until cancelled; what could not be written is written the next time."""
        while True:
            await self._poke.wait()
            self._poke.clear()
            try:
                await self.reconcile()
            except Exception:
                log.exception("statuses could not be written; they are tried again")

    async def reconcile(self) -> None:
        """One look; returns when what was due is written."""
        objects, services = self._functions.objects, self._services.objects
        for key in self._written.keys() - objects.keys():
            del self._written[key]
        writes = []
        for key, found in objects.items():
            try:
                writes += self._due(key, found, services.get(key))
            except Exception:  # one that cannot be told must not keep the others from it
                log.exception("status could not be made", function=str(key))
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(self._threads, write) for write in writes))

    def _due(self, key: Key, found: Object, service: Object | None) -> list[Callable[[], None]]:
        """The write that is due for an object; empty: none is."""
        look = self._seen(key), _version(service), _version(found)
        if look in self._written.get(key, ()) or "deletionTimestamp" in found["metadata"]:
            return []
        return [partial(self._write, key, found, self._status(key, found, service, look[0]), look)]

    def _write(self, key: Key, found: Object, status: dict[str, Any], look: Look) -> None:
        try:
            before = found.get("status", {})
            if not covers(before, status):
                found = self._api.patch(FUNCTION, *key, {"status": status}, "status")
                for verdict in refusals(before.get("conditions") or (), status["conditions"]):
                    self._refused(found, verdict, self._clock.now())
        except (NotFoundError, ConflictError):
            return
        except KubernetesError as error:
            log.warning("status could not be written", function=str(key), error=str(error))
            return
        self._written[key] = look, (look[0], look[1], _version(found))

    def _seen(self, key: Key) -> Seen:
        function = FunctionId(*key)
        live = self._known.of(function)
        memory = self._known.memory.get(function)
        route = self._routes.get(function)
        revisions = {each.revision.name for each in live} | (route.in_traffic() if route else frozenset())
        revisions |= {facts.revision for facts in route.revisions} if route else set()
        back_offs = {name: each.state.back_off for name in revisions if (each := self._known.memory_of(function, name))}
        return Seen(
            route=None if route is None else _lasting(route),
            outcome=self._outcome(key),
            replicas=len(live),
            ready_replicas=sum(each.state() is ReplicaState.READY for each in live),
            waits=(memory.waits if memory else "") or _pods_wait(live),
            leaving=frozenset(each.record.id for each in live if not each.wanted),
            revisions=frozenset(revisions),
            retry_at={name: back_off.retry_at for name, back_off in back_offs.items()},
            problem=self._problem(function, revisions),
            slots={name: self._known.slots(made) for name in revisions if (made := self._revision(function, name))},
            recommended=self._recommended(function),
        )

    def _revision(self, function: FunctionId, name: str) -> Revision | None:
        return self._known.revisions.get((function, name))

    def _status(self, key: Key, found: Object, service: Object | None, seen: Seen) -> dict[str, Any]:
        metadata = found["metadata"]
        generation = seen.outcome.generation if seen.outcome else 0
        failure = seen.route.failure if seen.route else ""
        judged = self._judged(service, seen)
        judged = {"Ready": ready(judged, failure), **judged}
        before = found.get("status", {}).get("conditions") or ()
        status: dict[str, Any] = {
            "observedGeneration": min(generation, metadata["generation"]),
            "conditions": conditions(before, judged, generation, self._clock.now()),
            "replicas": seen.replicas,
            "readyReplicas": seen.ready_replicas,
            "message": failure or seen.waits or judged["Ready"].message,
            "url": (service or {}).get("status", {}).get("url", ""),
        }
        route = seen.route
        if route is not None:
            name = FunctionId(*key)
            revisions = [self._known.revisions[name, revision] for revision in seen.revisions]
            told = published(route, revisions, seen.leaving, seen.retry_at, partial(self._eta, name), seen.slots)
            fresh = told.model_dump(mode="json", by_alias=True)
            status |= {"revision": route.revision, "route": instead(found.get("status", {}).get("route"), fresh)}
        return status

    def _judged(self, service: Object | None, seen: Seen) -> dict[str, Judgement]:
        outcome = seen.outcome
        return {
            "ModelVerified": outcome.verified if outcome else PENDING,
            "Sized": outcome.sized if outcome else PENDING,
            "Routed": routed(service, seen.problem),
            TUNED: tuned(seen.recommended),
        }


def _lasting(route: Route) -> Route:
    """Without what changes with every look: activators see replicas and starts for themselves."""
    revisions = tuple(replace(facts, start=None, retry_after_seconds=0.0) for facts in route.revisions)
    return replace(route, replicas=(), start=None, retry_after_seconds=0.0, revisions=revisions)


def routed(service: Object | None, problem: str = "") -> Judgement:
    """Knative's own verdict on the Service: its revision is usable and its ingress is programmed.

    Args:
        service: Of Knative.
        problem: What could not be written for the function; it says more than what Knative makes of the rest.
    """
    if problem:
        return Judgement("False", "ObjectsRefused", problem)
    if service is None:
        return Judgement("Unknown", "NoKnativeService", "the Knative Service is being made")
    if service.get("status", {}).get("observedGeneration") != service["metadata"]["generation"]:
        return Judgement("Unknown", "Reconciling", "Knative has not taken up the Service yet")
    # Of a revision that cannot be made Ready only says that there is none; why is told beside it.
    made = condition(service, "ConfigurationsReady")
    found = made if made.get("status") == "False" else condition(service, "Ready")
    reason = found.get("reason") or ("Routed" if found.get("status") == "True" else "Reconciling")
    return Judgement(found.get("status", "Unknown"), reason, found.get("message", ""))


def _pods_wait(live: list[Live]) -> str:
    waiting = (each.status.message for each in live if each.wanted and each.status is not None)
    return next((message for message in waiting if message), "")


def _version(found: Object | None) -> str:
    return str(found["metadata"]["resourceVersion"]) if found else ""


def instead(there: object, wanted: object) -> object:
    """The merge patch that leaves what is wanted and nothing else: what a mapping is not to have any more is null."""
    if not (isinstance(there, Mapping) and isinstance(wanted, Mapping)):
        return wanted
    gone = dict.fromkeys(there.keys() - wanted.keys())
    return {**gone, **{name: instead(there.get(name), value) for name, value in wanted.items()}}


def covers(there: object, wanted: object) -> bool:
    """Whether everything wanted is there already."""
    if isinstance(wanted, Mapping):
        return isinstance(there, Mapping) and all(covers(there.get(name), value) for name, value in wanted.items())
    return there == wanted
