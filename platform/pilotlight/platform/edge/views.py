"""From what the API server shows to what the activator routes by. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pilotlight.activator.traffic import HostRule
from pilotlight.activator.values import FunctionId, Replica, RevisionFacts, Route, StartProgress
from pilotlight.platform.control.routes import start_progress
from pilotlight.platform.kubernetes.kinds import Key, Object, labels_of
from pilotlight.platform.kubernetes.knative.names import REVISION_LABEL
from pilotlight.platform.kubernetes.knative.rules import own_splits
from pilotlight.platform.kubernetes.pods import QUEUE_PROXY_PORT
from pilotlight.platform.kubernetes.status import Published, PublishedRevision
from pilotlight.runtime.spec import ReplicaState, ReplicaStatus

SERVICE_TYPE_LABEL = "networking.internal.knative.dev/serviceType"
PRIVATE = "Private"
"""The Service whose endpoints are a revision's own pods."""
THROUGH_SERVICE_SLOTS = 10_000
"""Knative's activator queues by itself; more in flight there would only be refused."""


@dataclass(frozen=True)
class Endpoint:
    """A pod as an EndpointSlice has it."""

    pod: str
    ip: str
    ready: bool
    leaving: bool


@dataclass(frozen=True)
class View:
    """What is known of one function."""

    function: FunctionId
    published: Published
    endpoints: Mapping[str, Sequence[Endpoint]]
    """By revision."""
    tokenizers: Mapping[str, Path | None]
    """By revision."""
    queue_limit: int
    """This activator's share."""
    hosts: tuple[HostRule, ...] = ()
    """Of the function's ingresses."""


def endpoints(slices: Iterable[Object]) -> dict[Key, list[Endpoint]]:
    """Pods by revision, from the slices of private Services; a pod that is in several slices is one."""
    found: dict[Key, dict[str, Endpoint]] = defaultdict(dict)
    for each in slices:
        labels = labels_of(each)
        if labels.get(SERVICE_TYPE_LABEL) != PRIVATE or REVISION_LABEL not in labels:
            continue
        revision = Key(each["metadata"]["namespace"], labels[REVISION_LABEL])
        for endpoint in map(_endpoint, each.get("endpoints") or ()):
            if endpoint is not None:
                found[revision][endpoint.pod] = endpoint
    return {revision: list(pods.values()) for revision, pods in found.items()}


def _endpoint(raw: Mapping[str, object]) -> Endpoint | None:
    target, addresses, conditions = raw.get("targetRef"), raw.get("addresses"), raw.get("conditions")
    if not isinstance(target, Mapping) or not isinstance(addresses, list) or not addresses:
        return None
    known = conditions if isinstance(conditions, Mapping) else {}
    return Endpoint(
        pod=str(target.get("name")),
        ip=str(addresses[0]),
        ready=known.get("ready") is not False,  # Kubernetes: one that is not told counts as ready
        leaving=bool(known.get("terminating")),
    )


def starting(view: View) -> list[tuple[str, Endpoint]]:
    """(revision, endpoint) of every pod that is not ready yet."""
    return [
        (revision, endpoint)
        for revision, found in view.endpoints.items()
        for endpoint in found
        if not endpoint.ready and not endpoint.leaving
    ]


def route_of(view: View, said: Mapping[str, ReplicaStatus], engine_key: Mapping[str, str], now: float) -> Route:
    """The route of one function.

    Args:
        view: What is known of it.
        said: The last word of starting pods, by name.
        engine_key: By revision.
        now: Unix time.
    """
    told = view.published
    route = Route(
        function=view.function,
        **vars(_facts(view, told, said, now)),
        slo_class=told.slo_class,
        deadline_seconds=told.deadline_seconds,
        queue_limit=view.queue_limit,
        hold_seconds=told.hold_seconds,
        splits=own_splits(Key(*view.function), view.hosts),
        hosts=view.hosts,
    )
    taking = route.in_traffic()
    found = [each for revision in told.all() for each in _replicas(view, revision, said, engine_key, taking)]
    # While a newer revision is to take over, its start is what callers wait for as well.
    start = route.start or _start(view, [each for each in told.revisions if each.revision not in taking], said, now)
    return replace(
        route,
        replicas=tuple(sorted(found, key=lambda replica: replica.id)),
        start=start,
        revisions=tuple(_facts(view, each, said, now) for each in told.revisions if each.revision in taking),
    )


def _facts(view: View, revision: PublishedRevision, said: Mapping[str, ReplicaStatus], now: float) -> RevisionFacts:
    return RevisionFacts(
        revision=revision.revision,
        task=revision.task,
        model=revision.model,
        context=revision.context,
        tokenizer=view.tokenizers.get(revision.revision),
        adapters=revision.adapters,
        start=_start(view, [revision], said, now),
        start_eta_seconds=sum(revision.eta.values()),
        failure=revision.failure,
        retry_after_seconds=max(0.0, revision.retry_at - now) if revision.failure else 0.0,
    )


def _replicas(
    view: View,
    revision: PublishedRevision,
    said: Mapping[str, ReplicaStatus],
    engine_key: Mapping[str, str],
    taking: Collection[str],
) -> list[Replica]:
    name = revision.revision
    if revision.autoscaler == "kpa":
        return [_service(view, name, engine_key[name], name in taking)]
    return [
        Replica(
            id=endpoint.pod,
            revision=name,
            url=f"http://{_host(endpoint.ip)}:{QUEUE_PROXY_PORT}",
            engine_key=engine_key[name],
            slots=revision.slots,
            accepting=name in taking and not endpoint.leaving and endpoint.pod not in view.published.leaving,
        )
        for endpoint in view.endpoints.get(name, ())
        if endpoint.ready or endpoint.leaving or _ready(said.get(endpoint.pod))
    ]


def _service(view: View, revision: str, engine_key: str, accepting: bool) -> Replica:
    """Knative's own activator has to see the demand, or its autoscaler would start nothing."""
    return Replica(
        id=revision,
        revision=revision,
        url=f"http://{revision}.{view.function.namespace}.svc.cluster.local",
        engine_key=engine_key,
        slots=THROUGH_SERVICE_SLOTS,
        accepting=accepting,
        via_service=True,
    )


def _ready(status: ReplicaStatus | None) -> bool:
    return status is not None and status.state is ReplicaState.READY


def _start(
    view: View, revisions: Iterable[PublishedRevision], said: Mapping[str, ReplicaStatus], now: float
) -> StartProgress | None:
    """Of the start that is nearest to its end."""
    eta = {revision.revision: revision.eta for revision in revisions}
    starts = [
        start_progress(said.get(endpoint.pod) or _unheard(endpoint), eta[revision], now)
        for revision, endpoint in starting(view)
        if revision in eta and not _ready(said.get(endpoint.pod))
    ]
    return min(starts, key=lambda start: start.eta_seconds, default=None)


def _unheard(endpoint: Endpoint) -> ReplicaStatus:
    return ReplicaStatus(endpoint.pod, "", ReplicaState.STARTING)


def _host(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip
