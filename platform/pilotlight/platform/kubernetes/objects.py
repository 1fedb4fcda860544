"""What is made for a function, Knative Service and Secret, and what is waited for before its object may go.

Level-triggered and blocking: each look compares what is there with what should be, and writes only the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import structlog

from pilotlight.activator.values import Clock, FunctionId
from pilotlight.platform.control.specs import SpecSettings, replica_spec
from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.errors import ConflictError, InvalidError, KubernetesError, NotFoundError
from pilotlight.platform.kubernetes.kinds import (
    FUNCTION,
    FUNCTION_LABEL,
    KNATIVE_SERVICE,
    SECRET,
    SERVICE_ACCOUNT,
    Key,
    Object,
    annotations_of,
    labels_of,
)
from pilotlight.platform.kubernetes.knative.names import REVISION_LABEL
from pilotlight.platform.kubernetes.knative.service import (
    S3_ANNOTATION,
    PodPlan,
    Timeouts,
    knative_service,
    revision_secret,
    service_change,
    storage_secret_of,
)
from pilotlight.platform.kubernetes.mirror import Objects
from pilotlight.platform.kubernetes.pods import lacks_secret
from pilotlight.platform.values import Function, ReplicaRecord, Revision
from pilotlight.runtime.podspec import pod_environment

FINALIZER = "pilotlight.dev/cleanup"
TOGETHER = 8
"""Functions that are written for at once."""
AGAIN_SECONDS = 10.0
"""After so long a Secret that a pod still lacks may be gone again; before, Kubernetes may not have looked."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ObjectSettings:
    """What is the same for every function."""

    runtime_image: str
    simulated_image: str
    storage: Mapping[str, str]
    """How pods reach the model store, by AWS's names of the environment."""
    timeouts: Timeouts
    spec: SpecSettings


@dataclass(frozen=True)
class _Written:
    """A Secret."""

    at: float
    """Monotonic."""
    lacking: frozenset[str]
    """Uids of the pods that lacked it."""


class FunctionObjects:
    """`problems` says what could not be done for a function, in words."""

    def __init__(self, api: Api, services: Objects, pods: Objects, settings: ObjectSettings, clock: Clock) -> None:
        self._api = api
        self._services = services
        self._pods = pods
        self._settings = settings
        self._clock = clock
        self._secrets: dict[tuple[str, str], _Written] = {}
        """By (uid of the function, revision): those that were written since this process leads. We may not read
        Secrets: that one is gone is told by a pod that cannot start."""
        self._lacking: Mapping[Key, Mapping[str, frozenset[str]]] = {}
        self.problems: dict[Key, str] = {}

    def reconcile(
        self,
        objects: Mapping[Key, Object],
        current: Callable[[FunctionId], tuple[Function, Revision] | None],
        revision: Callable[[FunctionId, str], Revision | None],
    ) -> None:
        """`current` gives a function and its newest revision, None: it has none yet; `revision` gives any by name."""
        self._lacking = _lacking(self._pods.objects)
        with ThreadPoolExecutor(TOGETHER, thread_name_prefix="objects") as threads:
            known = (current(FunctionId(*key)) for key in objects)
            lacking = ([revision(FunctionId(*key), name) for name in self._lacking.get(key, ())] for key in objects)
            list(threads.map(self._one, objects, objects.values(), known, lacking))
        for key in self.problems.keys() - objects.keys():
            del self.problems[key]

    def _one(
        self, key: Key, found: Object, known: tuple[Function, Revision] | None, lacking: Iterable[Revision | None]
    ) -> None:
        try:
            if "deletionTimestamp" in found["metadata"]:
                self._take_down(key, found)
            else:
                self._put_up(key, found, known, lacking)
            self.problems.pop(key, None)
        except (ConflictError, NotFoundError) as error:
            log.info("object changed meanwhile; the next look sees it", function=str(key), error=error.message)
        except KubernetesError as error:
            if self.problems.get(key) != error.message:
                log.warning("objects could not be written", function=str(key), error=str(error))
            self.problems[key] = error.message

    def _put_up(
        self, key: Key, found: Object, known: tuple[Function, Revision] | None, lacking: Iterable[Revision | None]
    ) -> None:
        if FINALIZER not in (found["metadata"].get("finalizers") or ()):
            self._set_finalizers(key, found, [*(found["metadata"].get("finalizers") or ()), FINALIZER])
        if known is None:
            return
        service = self._services.get(*key)
        plan = self._plan(found, *known, service)
        self._put_secret(plan)
        for older in filter(None, lacking):
            self._put_secret(self._plan(found, known[0], older, service))
        if service is None:
            self._create(knative_service(plan))
        elif labels_of(service).get(FUNCTION_LABEL) and (change := service_change(plan, service)):
            self._api.patch(KNATIVE_SERVICE, *key, change)
            log.info("Knative Service changed", function=str(key), revision=plan.revision.name)

    def _create(self, service: Object) -> None:
        try:
            self._api.create(KNATIVE_SERVICE, service)
        except ConflictError as error:
            namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
            named = f"metadata.name={name}"
            if self._api.list(KNATIVE_SERVICE, namespace, labels=FUNCTION_LABEL, fields=named).items:
                raise  # it is ours, and so new that the mirror does not have it yet
            raise InvalidError(
                error.doing,
                error.status,
                error.reason,
                f"there is a Knative Service {name} that is not ours; delete it, or name the function otherwise",
            ) from error

    def _put_secret(self, plan: PodPlan) -> None:
        mark = (plan.owner["metadata"]["uid"], plan.revision.name)
        lacking = self._lacking.get(Key(*plan.revision.function), {}).get(plan.revision.name, frozenset())
        written, now = self._secrets.get(mark), self._clock.monotonic()
        if written is None or lacking - written.lacking or (lacking and now - written.at >= AGAIN_SECONDS):
            self._api.apply(SECRET, revision_secret(plan, self._settings.storage))
            self._secrets[mark] = _Written(now, lacking)

    def _plan(self, found: Object, function: Function, revision: Revision, service: Object | None) -> PodPlan:
        template, settings = revision.template, self._settings
        devices = tuple(map(str, range(template.devices)))
        record = ReplicaRecord("", function.id, revision.name, 0.0, devices=devices)
        return PodPlan(
            owner=found,
            revision=revision,
            policy=function.policy,
            image=settings.simulated_image if template.kind == "simulated" else settings.runtime_image,
            environment=pod_environment(replica_spec(record, revision, settings.spec)),
            timeouts=settings.timeouts,
            storage_secret=self._storage_secret(revision, service),
        )

    def _storage_secret(self, revision: Revision, service: Object | None) -> str:
        """As the revision was made with; a change of the account counts from the next revision on."""
        namespace, account = revision.function.namespace, revision.template.pod.get("serviceAccountName")
        if not account:
            return ""
        made = storage_secret_of(service, revision.name) if service is not None else None
        if made is not None:
            return made
        try:
            return annotations_of(self._api.get(SERVICE_ACCOUNT, namespace, str(account))).get(S3_ANNOTATION, "")
        except NotFoundError as error:
            text = (
                f"there is no ServiceAccount {account} in {namespace}; make it, or change spec.pod.serviceAccountName"
            )
            raise InvalidError(error.doing, error.status, error.reason, text) from error

    def _take_down(self, key: Key, found: Object) -> None:
        """The object goes last: when nothing runs any more that was made for it."""
        finalizers = list(found["metadata"].get("finalizers") or ())
        if FINALIZER not in finalizers:
            return
        service = self._services.get(*key)
        if service is not None:
            if "deletionTimestamp" not in service["metadata"]:
                self._api.delete(KNATIVE_SERVICE, *key, foreground=True)
            return
        pods = self._pods.objects.items()
        if any(where.namespace == key.namespace and labels_of(pod)[FUNCTION_LABEL] == key.name for where, pod in pods):
            return
        self._set_finalizers(key, found, [name for name in finalizers if name != FINALIZER])
        log.info("function is gone", function=str(key))

    def _set_finalizers(self, key: Key, found: Object, finalizers: list[str]) -> None:
        version = found["metadata"]["resourceVersion"]
        self._api.patch(FUNCTION, *key, {"metadata": {"resourceVersion": version, "finalizers": finalizers}})


def _lacking(pods: Mapping[Key, Object]) -> Mapping[Key, Mapping[str, frozenset[str]]]:
    """By function and revision: uids of the pods that cannot start because the revision's Secret is not there."""
    found: dict[Key, dict[str, frozenset[str]]] = {}
    for key, pod in pods.items():
        if lacks_secret(pod):
            labels = labels_of(pod)
            of_function = found.setdefault(Key(key.namespace, labels[FUNCTION_LABEL]), {})
            revision = labels[REVISION_LABEL]
            of_function[revision] = of_function.get(revision, frozenset()) | {pod["metadata"]["uid"]}
    return found
