"""Replicas as pods of Knative revisions; a `control.cluster.Cluster`.

The control loop asks for single replicas; Kubernetes brings about counts. A replica that was asked for has no name
before a pod stands for it; one that leaves is marked, so that the Deployment's controller takes it and no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Protocol

import structlog

from pilotlight.activator.values import Clock, FunctionId
from pilotlight.platform.control.cluster import Found, RevisionId, Wanted
from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.errors import KubernetesError
from pilotlight.platform.kubernetes.kinds import FUNCTION_LABEL, POD, Key, Object, annotations_of, condition, labels_of
from pilotlight.platform.kubernetes.knative.names import REVISION_LABEL
from pilotlight.platform.kubernetes.mirror import Objects
from pilotlight.platform.kubernetes.pods import (
    USER_CONTAINER,
    failure_of,
    is_ready,
    leaves,
    overdue,
    seconds_of,
    status_of,
)
from pilotlight.platform.kubernetes.probing import Prober, Target
from pilotlight.platform.values import ReplicaRecord
from pilotlight.runtime.spec import Phase, PhaseReport, ReplicaSpec, ReplicaState, ReplicaStatus

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
LEAVES_FIRST = "-1000"
"""Of a ReplicaSet's pods that are equally ready, the one with the least cost goes first."""
ASKED_SECONDS = 10.0
"""A pod that leaves goes when its Deployment's count falls; where another pod went instead, it is ended by name."""
COUNTED_SECONDS = 5.0
"""Between two questions to a ready pod what its engine has counted: there may be a thousand."""
LOOK_AGAIN_SECONDS = 10.0
"""Without any news; what was changed by others is put right then at the latest."""

log = structlog.get_logger(__name__)


class Scaler(Protocol):
    @property
    def again_seconds(self) -> float | None:
        """When to be told again without any news; None: no need."""

    def reconcile(self, wanted: Mapping[RevisionId, Wanted]) -> None:
        """Bring every revision's count about; blocking."""


@dataclass(frozen=True)
class PodSettings:
    """How patient the cluster is."""

    drain_seconds: float = 120.0
    """What a pod's streams may take to end."""
    patience_seconds: float = 60.0
    """A pod that finds no node for so long has failed: a node autoscaler would have said by then that it adds one."""


class KubernetesCluster:
    """Reads mirrors, writes through its `Scaler` in a task of its own, so that no round waits for the API server."""

    def __init__(
        self,
        api: Api,
        pods: Objects,
        deployments: Objects,
        scaler: Scaler,
        engine_key: Callable[[str, str], str],
        changed: Callable[[], None],
        clock: Clock,
        settings: PodSettings,
        blocked: Callable[[RevisionId], str] = lambda _: "",
    ) -> None:
        """
        Args:
            changed: Called in the event loop when a starting pod has said something new.
            blocked: Why the cluster makes no pods of a revision at all, one sentence; empty: it does.
        """
        self._api = api
        self._pods = pods
        self._deployments = deployments
        self._scaler = scaler
        self._engine_key = engine_key
        self._clock = clock
        self._settings = settings
        self._blocked = blocked
        self._prober = Prober(changed, COUNTED_SECONDS)
        self._pending: dict[str, RevisionId] = {}
        self._left: set[str] = set()
        self._asked: dict[str, float] = {}
        """Since when pods that leave were to go, monotonic."""
        self._failed: set[str] = set()
        """Pods that are to go."""
        self._served: set[str] = set()
        """Pods that have been ready."""
        self._wanted: Mapping[RevisionId, Wanted] | None = None
        self._poke = asyncio.Event()

    async def start(self, spec: ReplicaSpec) -> None:
        self._pending[spec.replica] = RevisionId(FunctionId(*spec.function.split("/", 1)), spec.revision)

    async def observe(self, replicas: Sequence[ReplicaRecord]) -> Mapping[str, ReplicaStatus]:
        pods = self._pods.objects
        there = {key.name for key in pods}
        self._served &= there
        self._failed &= there
        self._aim(pods)
        names = {record.id for record in replicas}
        free = {name: pod for name, pod in _by_name(pods).items() if name not in names and self._hopeful(name, pod)}
        found: dict[str, ReplicaStatus] = {}
        for record in replicas:
            status = self._look(record, pods, free)
            if status is not None:
                found[record.id] = status
        return found

    async def found(self, known: Collection[str]) -> tuple[Found, ...]:
        """A pod that has come since the last look may be the one that was asked for: the next look tells."""
        pods, pending = _by_name(self._pods.objects), set(self._pending.values())
        free = (_found(pod) for name, pod in pods.items() if name not in known and self._hopeful(name, pod))
        return tuple(found for found in free if found.revision not in pending)

    def settle(self, wanted: Mapping[RevisionId, Wanted]) -> None:
        if wanted != self._wanted:
            self._wanted = wanted
            self._poke.set()

    def news(self) -> None:
        """Something that the scaler looks at has changed; call it in the event loop."""
        self._poke.set()

    async def drain(self, replica: str) -> None:
        """Nothing at once: it is among those that leave when the counts are told."""

    async def stop(self, replica: str) -> None:
        """See `drain`; one that was asked for and has no pod yet is forgotten."""
        if self._pending.pop(replica, None) is not None:
            self._left.add(replica)

    async def forget(self, replica: str) -> None:
        """One that has failed is deleted, once it is not counted any more: Kubernetes would restart it for ever."""
        self._pending.pop(replica, None)
        self._left.discard(replica)
        self._prober.forget(replica)
        pod = _by_name(self._pods.objects).get(replica)
        if pod is not None and not leaves(pod):
            self._failed.add(replica)
            self._poke.set()

    async def log(self, replica: str, tail: int, follow: bool) -> AsyncIterator[bytes]:
        pod = _by_name(self._pods.objects).get(replica)
        if pod is None:
            return
        # A thread of its own: one that is followed may say nothing for hours.
        thread, loop = ThreadPoolExecutor(1, thread_name_prefix="log"), asyncio.get_running_loop()
        with ExitStack() as ending:
            ending.callback(thread.shutdown, wait=False)
            namespace = pod["metadata"]["namespace"]
            try:
                lines = await loop.run_in_executor(
                    thread, self._api.log, namespace, replica, USER_CONTAINER, tail, follow
                )
                ending.callback(thread.submit, lines.close)
                ending.callback(lines.end)  # first: the reader may be gone while the thread waits for a line
                while line := await loop.run_in_executor(thread, next, lines, b""):
                    yield line
            except KubernetesError as error:
                yield f"the log cannot be read: {error.message}\n".encode()

    async def run(self) -> None:
        """Carry out what was settled, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(LOOK_AGAIN_SECONDS, self._scaler.again_seconds or LOOK_AGAIN_SECONDS)):
                    await self._poke.wait()
            self._poke.clear()
            if self._wanted is None:
                continue  # before the first round nobody knows what there should be
            try:
                await asyncio.to_thread(self._carry_out, self._wanted)
            except Exception:
                log.exception("scaling failed; it is tried again")
                await asyncio.sleep(1.0)
                self._poke.set()

    async def close(self) -> None:
        await self._prober.close()

    def _carry_out(self, wanted: Mapping[RevisionId, Wanted]) -> None:
        pods = _by_name(self._pods.objects)
        now = self._clock.monotonic()
        leaving = {name for each in wanted.values() for name in each.leaving if name in pods}
        self._asked = {name: self._asked.get(name, now) for name in leaving}
        for name in leaving:
            self._mark(pods[name])
        self._scaler.reconcile(wanted)
        for name, pod in pods.items():
            if overdue(pod, name in self._served, self._settings.drain_seconds, self._clock.now()):
                log.warning("pod does not end by itself and is removed", pod=name)
                self._end(pod, grace_seconds=0)
            elif not leaves(pod) and (name in self._failed or now - self._asked.get(name, now) > ASKED_SECONDS):
                self._end(pod)

    def _end(self, pod: Object, grace_seconds: int | None = None) -> None:
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        try:
            self._api.delete(POD, namespace, name, grace_seconds=grace_seconds)
        except KubernetesError as error:
            log.warning("pod could not be removed", pod=name, error=str(error))

    def _mark(self, pod: Object) -> None:
        if leaves(pod) or annotations_of(pod).get(DELETION_COST) == LEAVES_FIRST:
            return
        metadata = pod["metadata"]
        body = {"metadata": {"annotations": {DELETION_COST: LEAVES_FIRST}}}
        try:
            self._api.patch(POD, metadata["namespace"], metadata["name"], body)
        except KubernetesError as error:
            log.warning("pod could not be marked as leaving", pod=metadata["name"], error=str(error))

    def _look(self, record: ReplicaRecord, pods: Mapping[Key, Object], free: dict[str, Object]) -> ReplicaStatus | None:
        pod = pods.get(Key(record.function.namespace, record.id))
        if pod is not None:
            if leaves(pod):
                self._left.add(record.id)
            return self._status(pod)
        if record.id in self._left:
            return ReplicaStatus(record.id, record.revision, ReplicaState.STOPPED, message="Kubernetes has ended it")
        if record.id not in self._pending:
            return None
        name = next((name for name, pod in free.items() if _found(pod).revision == self._pending[record.id]), None)
        if name is None:
            return self._without_pod(record)
        del self._pending[record.id]
        return self._status(free.pop(name))

    def _without_pod(self, record: ReplicaRecord) -> ReplicaStatus:
        """Asked for, and not there yet: Kubernetes says so when it must not make the pod."""
        namespace = record.function.namespace
        mine = [
            found
            for key, found in self._deployments.objects.items()
            if key.namespace == namespace and labels_of(found).get(REVISION_LABEL) == record.revision
        ]
        if not mine and (blocked := self._blocked(RevisionId(record.function, record.revision))):
            return ReplicaStatus(record.id, record.revision, ReplicaState.FAILED, message=blocked)
        refused = next(
            (c.get("message", "") for d in mine if (c := condition(d, "ReplicaFailure")).get("status") == "True"), ""
        )
        phases = (PhaseReport(Phase.SCHEDULE, record.created_at, detail=refused),)
        waited = self._clock.now() - record.created_at
        if refused and waited > self._settings.patience_seconds:
            return ReplicaStatus(record.id, record.revision, ReplicaState.FAILED, phases, message=refused)
        return ReplicaStatus(record.id, record.revision, ReplicaState.STARTING, phases, message=refused)

    def _status(self, pod: Object) -> ReplicaStatus:
        name = pod["metadata"]["name"]
        said = self._prober.said.get(name)
        status = status_of(pod, said, self._settings.patience_seconds, self._clock.now())
        if status.state is ReplicaState.READY:
            self._served.add(name)
        return status

    def _hopeful(self, name: str, pod: Object) -> bool:
        if name in self._failed:
            return False
        return not leaves(pod) and not failure_of(pod, self._settings.patience_seconds, self._clock.now())

    def _aim(self, pods: Mapping[Key, Object]) -> None:
        targets = {
            key.name: Target(
                pod["status"]["podIP"],
                self._engine_key(key.namespace, labels_of(pod)[REVISION_LABEL]),
                is_ready(pod),
            )
            for key, pod in pods.items()
            if REVISION_LABEL in labels_of(pod) and pod["status"].get("podIP") and not leaves(pod)
        }
        self._prober.aim(targets)


def _by_name(pods: Mapping[Key, Object]) -> dict[str, Object]:
    """Pods of revisions, oldest first."""
    mine = [(seconds_of(pod["metadata"]["creationTimestamp"]), key.name, pod) for key, pod in pods.items()]
    return {name: pod for _, name, pod in sorted(mine, key=lambda each: each[:2]) if REVISION_LABEL in labels_of(pod)}


def _found(pod: Object) -> Found:
    labels, metadata = labels_of(pod), pod["metadata"]
    function = FunctionId(metadata["namespace"], labels.get(FUNCTION_LABEL, ""))
    return Found(
        metadata["name"], RevisionId(function, labels[REVISION_LABEL]), seconds_of(metadata["creationTimestamp"])
    )
