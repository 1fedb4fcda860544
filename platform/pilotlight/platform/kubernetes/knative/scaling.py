"""The autoscaler class `pilotlight.dev`: what a PodAutoscaler's owner has to write. Pure.

Knative makes a PodAutoscaler for each revision and leaves one of a foreign class alone. Its owner makes the
ServerlessService, scales the Deployment, and says in the PodAutoscaler's status whether the revision is active; a
Revision stays `Deploying` until somebody does.

Where this differs from Knative's own class:

* The ServerlessService stays in mode Proxy. Knative switches it to Serve while there are pods, and must therefore, on
  the way to zero, probe until its activator is in the path again before the last pod may go. Here our activator is in
  front of a function, sends to pods by their addresses and holds what comes while there are none. The public Service
  is the way around for requests that it cannot place, and in Proxy that way always ends in a queue, never at a pod
  that has gone. So nothing is waited for on the way to zero.
* Nothing is kept in annotations: Knative deletes those under its prefix that the Revision does not have, and all that
  is needed is in the status itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pilotlight.platform.kubernetes.kinds import (
    POD_AUTOSCALER,
    SERVERLESS_SERVICE,
    Object,
    annotations_of,
    condition,
    labels_of,
    owner_reference,
)
from pilotlight.platform.kubernetes.knative import names
from pilotlight.platform.kubernetes.knative.conditions import TRUE, false, unknown, written
from pilotlight.platform.kubernetes.pods import seconds_of
from pilotlight.platform.kubernetes.status import Judgement
from pilotlight.platform.manifest.units import Duration, UnitError

ACTIVATORS = 2
"""Of Knative's that the public Service leads to."""
DEADLINE_SECONDS = 600.0
"""Knative's own, of a revision that names none."""
BUFFER_SECONDS = 30.0
"""The Deployment's controller is given so long to notice the deadline first."""
RETRY_SECONDS = 300.0
"""Whoever still wants replicas of a revision that timed out gets another try after this."""

QUEUED = unknown("Queued", "Requests to the target are being buffered as resources are provisioned.")
NO_TRAFFIC = false("NoTraffic", "The target is not receiving traffic.")
TIMED_OUT = false("TimedOut", "The target could not be activated.")


@dataclass(frozen=True)
class Wanted:
    """What there should be of one revision."""

    replicas: int
    minimum: int = 0
    """It is active only with as many ready."""


@dataclass(frozen=True)
class View:
    """All that is known of one revision."""

    autoscaler: Object
    service: Object | None
    """The ServerlessService; None: there is none yet."""
    replicas: int | None
    """The Deployment's; None: there is no Deployment."""
    ready: int
    wanted: Wanted | None
    """None: nobody has said, so the count is left as it is."""
    now: float
    """Unix time."""


@dataclass(frozen=True)
class Writes:
    """What differs from what should be; nothing: all is as it should be."""

    create: Object | None = None
    """The ServerlessService."""
    service: Mapping[str, Any] | None = None
    """Its merge patch."""
    status: Mapping[str, Any] | None = None
    """Of the PodAutoscaler, a merge patch with the whole list of conditions."""
    replicas: int | None = None
    """The Deployment's new count."""
    again_seconds: float | None = None
    """When to look again without any news; None: no need."""


def decide(view: View) -> Writes:
    """Deciding again after these writes gives none."""
    service = view.service if _is_ours(view) else None
    initialised = _initialised(view, service)
    active = _active(view, initialised)
    replicas = _replicas(view, initialised, active)
    status = {
        "observedGeneration": view.autoscaler["metadata"]["generation"],
        "serviceName": _said(view, service, "serviceName"),
        "metricsServiceName": _said(view, service, "metricsServiceName", "privateServiceName"),
        "desiredScale": replicas if replicas is not None else 0,
        "actualScale": view.ready,
        "conditions": written(
            view.autoscaler,
            {
                "Active": active,
                "SKSReady": _service_ready(view, service),
                "ScaleTargetInitialized": TRUE if initialised else unknown(""),
            },
            view.now,
        ),
    }
    before = view.autoscaler.get("status", {})
    return Writes(
        create=serverless_service(view.autoscaler) if view.service is None else None,
        service=_service_patch(view.autoscaler, service),
        status=None if all(before.get(field) == value for field, value in status.items()) else status,
        replicas=replicas if view.replicas is not None and replicas != view.replicas else None,
        again_seconds=_again(view, active),
    )


def serverless_service(autoscaler: Object) -> dict[str, Any]:
    """Knative's activator finds the revision by the labels."""
    metadata = autoscaler["metadata"]
    annotations = annotations_of(autoscaler)
    return {
        "apiVersion": SERVERLESS_SERVICE.api_version,
        "kind": SERVERLESS_SERVICE.kind,
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": dict(labels_of(autoscaler)),
            "annotations": {name: value for name, value in annotations.items() if name != names.METRIC},
            "ownerReferences": [owner_reference(autoscaler, POD_AUTOSCALER)],
        },
        "spec": _service_spec(autoscaler),
    }


def _service_spec(autoscaler: Object) -> dict[str, Any]:
    spec = autoscaler["spec"]
    return {
        "mode": "Proxy",
        "objectRef": spec["scaleTargetRef"],
        "protocolType": spec["protocolType"],
        "numActivators": ACTIVATORS,
    }


def _service_patch(autoscaler: Object, service: Object | None) -> Mapping[str, Any] | None:
    wanted = _service_spec(autoscaler)
    if service is None or wanted.items() <= service["spec"].items():
        return None
    return {"spec": wanted}


def _is_ours(view: View) -> bool:
    """A namesake that another PodAutoscaler owns is in the way until Kubernetes has collected it."""
    owners = (view.service or {}).get("metadata", {}).get("ownerReferences") or ()
    return any(owner["uid"] == view.autoscaler["metadata"]["uid"] for owner in owners)


def _said(view: View, service: Object | None, field: str, source: str = "") -> str:
    """What the ServerlessService says, or said while it was there; the schema wants a text in any case."""
    status = (service or {}).get("status", {})
    return str(status.get(source or field) or view.autoscaler.get("status", {}).get(field, ""))


def _service_ready(view: View, service: Object | None) -> Judgement:
    if view.service is not None and service is None:
        return unknown("NotOwned", "There is an existing ServerlessService that this PodAutoscaler does not own.")
    if service is None or not service.get("status", {}).get("privateServiceName"):
        return unknown("NotReady", "No private service name.")
    ready = condition(service, "Ready")
    seen = service["status"].get("observedGeneration") == service["metadata"]["generation"]
    return TRUE if seen and ready.get("status") == "True" else unknown("NotReady", ready.get("message", ""))


def _initialised(view: View, service: Object | None) -> bool:
    """Once it is, it stays so. Before that the revision must not be called inactive: Knative would fail it for good."""
    if condition(view.autoscaler, "ScaleTargetInitialized").get("status") == "True":
        return True
    initial = _initial_scale(view.autoscaler)
    return bool(_said(view, service, "serviceName")) and (initial == 0 or view.ready >= initial)


def _active(view: View, initialised: bool) -> Judgement:
    replicas = view.wanted.replicas if view.wanted else view.replicas or 0
    minimum = view.wanted.minimum if view.wanted and not _unreachable(view.autoscaler) else 0
    if not initialised:
        return QUEUED
    if replicas == 0:
        return NO_TRAFFIC
    if view.ready >= max(1, minimum):
        return TRUE
    return TIMED_OUT if view.wanted and view.ready == 0 and _timed_out(view) else QUEUED


def _timed_out(view: View) -> bool:
    before = condition(view.autoscaler, "Active")
    elapsed = view.now - seconds_of(before.get("lastTransitionTime"))
    if (before.get("status"), before.get("reason")) == (TIMED_OUT.status, TIMED_OUT.reason):
        return elapsed < RETRY_SECONDS
    return before.get("status") == "Unknown" and elapsed > _patience(view.autoscaler)


def _replicas(view: View, initialised: bool, active: Judgement) -> int | None:
    """None: nobody has said, and there is no Deployment that has a count."""
    if active is TIMED_OUT:
        return 0
    if view.wanted is None:
        return view.replicas
    if initialised or _unreachable(view.autoscaler):
        return view.wanted.replicas
    return max(view.wanted.replicas, _initial_scale(view.autoscaler))


def _again(view: View, active: Judgement) -> float | None:
    """A second later than needed: times of conditions are whole seconds."""
    before = condition(view.autoscaler, "Active")
    same = before.get("status") == active.status and before.get("reason", "") == active.reason
    elapsed = view.now - seconds_of(before.get("lastTransitionTime")) if same else 0.0
    if active is TIMED_OUT:
        return max(1.0, RETRY_SECONDS - elapsed + 1)
    if active is QUEUED and view.ready == 0:
        return max(1.0, _patience(view.autoscaler) - elapsed + 1)
    return None


def _unreachable(autoscaler: Object) -> bool:
    """No traffic is configured to go there."""
    return bool(autoscaler["spec"].get("reachability") == "Unreachable")


def _initial_scale(autoscaler: Object) -> int:
    text = annotations_of(autoscaler).get(names.INITIAL_SCALE, "1")
    return int(text) if text.isdigit() else 1


def _patience(autoscaler: Object) -> float:
    """How long it may take to get a first ready pod, seconds."""
    try:
        return Duration.parse(annotations_of(autoscaler)[names.PROGRESS_DEADLINE]).seconds + BUFFER_SECONDS
    except (KeyError, UnitError):
        return DEADLINE_SECONDS + BUFFER_SECONDS
