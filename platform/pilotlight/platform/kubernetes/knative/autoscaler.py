"""Carries out `scaling.decide` for every revision of our class. Blocking, level-triggered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from pilotlight.activator.values import Clock
from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.errors import ConflictError, KubernetesError, NotFoundError
from pilotlight.platform.kubernetes.kinds import (
    DEPLOYMENT,
    FUNCTION_LABEL,
    POD_AUTOSCALER,
    SERVERLESS_SERVICE,
    Key,
    Kind,
    Object,
    annotations_of,
    key_of,
    labels_of,
)
from pilotlight.platform.kubernetes.knative import names
from pilotlight.platform.kubernetes.knative.latest import Latest
from pilotlight.platform.kubernetes.knative.resting import NOTHING, Resting
from pilotlight.platform.kubernetes.knative.scaling import View, Wanted, Writes
from pilotlight.platform.kubernetes.mirror import Mirror
from pilotlight.platform.kubernetes.pods import is_ready, leaves

Body = Mapping[str, Any] | Sequence[Mapping[str, Any]]

TOGETHER = 8
"""Revisions that are written at once."""


@dataclass(frozen=True)
class Sources:
    """What it reads."""

    autoscalers: Mirror
    services: Mirror
    """ServerlessServices."""
    deployments: Mirror
    pods: Mirror


@dataclass(frozen=True)
class _Look:
    """One revision and what is to be written of it."""

    autoscaler: Object
    replicas: int | None
    """As they are."""
    writes: Writes

    @property
    def key(self) -> Key:
        return key_of(self.autoscaler)

    @property
    def rises(self) -> bool:
        return self.writes.replicas is not None and self.writes.replicas > (self.replicas or 0)


class Autoscaler:
    """Owns the PodAutoscalers of its class that carry a function's label."""

    def __init__(self, api: Api, sources: Sources, clock: Clock, class_name: str = names.OUR_CLASS) -> None:
        self._api = api
        self._sources = sources
        self._clock = clock
        self._class = class_name
        self._latest = Latest(clock)
        self._resting = Resting()
        self._threads = ThreadPoolExecutor(TOGETHER, thread_name_prefix="autoscaler")
        self.again_seconds: float | None = None
        """When to reconcile again without any news; None: no need."""

    def reconcile(self, wanted: Mapping[Key, Wanted]) -> Mapping[Key, str]:
        """Write what differs.

        A revision that is not among the wanted keeps its count. Counts that rise go first, of all revisions: whoever
        waits for a first replica must not wait for the status of another.

        Args:
            wanted: By the revision's namespace and name.

        Returns:
            What could not be written, by revision, one sentence. One that somebody else has changed or deleted
            meanwhile is not among them: the change is news, and the next look sees it.
        """
        looks = self._looks(wanted)
        self.again_seconds = min(
            (look.writes.again_seconds for look in looks if look.writes.again_seconds is not None), default=None
        )
        problems: dict[Key, str] = {}
        for each in (
            self._threads.map(self._raise, [look for look in looks if look.rises]),
            self._threads.map(self._settle, looks),
        ):
            problems |= {key: problem for key, problem in each if problem}
        return problems

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def _looks(self, wanted: Mapping[Key, Wanted]) -> list[_Look]:
        """Those that something follows from."""
        ready = _ready_pods(self._sources.pods.objects.values())
        services, deployments = self._sources.services.objects, self._sources.deployments.objects
        looks = []
        for key, found in self._sources.autoscalers.objects.items():
            if not self._owns(found):
                continue
            autoscaler = self._latest.of(POD_AUTOSCALER, key, found) or found
            deployment = self._latest.of(DEPLOYMENT, _target(found), deployments.get(_target(found)))
            replicas = None if deployment is None else deployment["spec"].get("replicas", 0)
            service = self._latest.of(SERVERLESS_SERVICE, key, services.get(key))
            view = View(autoscaler, service, replicas, ready[key], wanted.get(key), self._clock.now())
            looks.append(_Look(autoscaler, replicas, self._resting.decide(key, view)))
        keys = {look.key for look in looks}
        self._resting.keep(keys)
        self._latest.keep(keys | {_target(look.autoscaler) for look in looks})
        return [look for look in looks if look.writes != NOTHING]

    def _owns(self, autoscaler: Object) -> bool:
        ours = annotations_of(autoscaler).get(names.CLASS) == self._class and FUNCTION_LABEL in labels_of(autoscaler)
        return ours and "deletionTimestamp" not in autoscaler["metadata"]

    def _raise(self, look: _Look) -> tuple[Key, str]:
        return look.key, _attempt(self._scale(look))

    def _settle(self, look: _Look) -> tuple[Key, str]:
        """The status before a count that falls: nobody may take a revision for active that is about to end."""
        key, writes = look.key, look.writes
        steps: list[Callable[[], None]] = []
        if writes.create is not None:
            steps.append(partial(self._create, key, writes.create))
        if writes.service is not None:
            steps.append(partial(self._patch, SERVERLESS_SERVICE, key, writes.service))
        if writes.status is not None:
            steps.append(partial(self._patch, POD_AUTOSCALER, key, {"status": writes.status}, "status"))
        if writes.replicas is not None and not look.rises:
            steps.append(self._scale(look))
        problems = [problem for step in steps if (problem := _attempt(step))]
        return key, "; ".join(problems)

    def _scale(self, look: _Look) -> Callable[[], None]:
        body = [{"op": "add", "path": "/spec/replicas", "value": look.writes.replicas}]
        return partial(self._patch, DEPLOYMENT, _target(look.autoscaler), body, "scale")

    def _create(self, key: Key, body: Object) -> None:
        self._latest.put(SERVERLESS_SERVICE, key, self._api.create(SERVERLESS_SERVICE, body))

    def _patch(self, kind: Kind, key: Key, body: Body, subresource: str = "") -> None:
        self._latest.put(kind, key, self._api.patch(kind, *key, body, subresource))


def _attempt(step: Callable[[], None]) -> str:
    """What is wrong, one sentence; empty: nothing."""
    try:
        step()
    except (ConflictError, NotFoundError):
        return ""
    except KubernetesError as error:
        return str(error)
    return ""


def _target(autoscaler: Object) -> Key:
    """The Deployment that it scales."""
    return Key(autoscaler["metadata"]["namespace"], autoscaler["spec"]["scaleTargetRef"]["name"])


def _ready_pods(pods: Iterable[Object]) -> Counter[Key]:
    """By revision."""
    serving = (pod for pod in pods if is_ready(pod) and not leaves(pod))
    return Counter(Key(pod["metadata"]["namespace"], labels_of(pod).get(names.REVISION_LABEL, "")) for pod in serving)
