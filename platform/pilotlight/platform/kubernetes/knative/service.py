"""The Knative Service of a function's current revision, and the Secret of its pods. Pure."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pilotlight.platform.kubernetes.kinds import (
    FUNCTION,
    FUNCTION_LABEL,
    KNATIVE_SERVICE,
    MANAGED_BY,
    SECRET,
    Object,
    annotations_of,
    labels_of,
    owner_reference,
)
from pilotlight.platform.kubernetes.knative import names
from pilotlight.platform.kubernetes.knative.names import secret_name
from pilotlight.platform.kubernetes.knative.podspec import pod_spec
from pilotlight.platform.values import Policy, Revision
from pilotlight.runtime.podspec import KEY_VARIABLE

LONGEST_RETENTION_SECONDS = 3600
"""Knative's own bound."""
MOST_CONCURRENCY = 1000
"""Knative's own bound of what one pod takes at once, where it was not configured otherwise."""
DEFAULT_MOST_SECONDS = 600
"""Of a Knative that was not configured otherwise."""
S3_ANNOTATION = "pilotlight.dev/s3-secret"
"""Annotation of a service account: the Secret, in its namespace, that its pods have their S3 credentials from."""
CREDENTIALS = frozenset({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"})
NAME = re.compile(r"[a-z]([a-z0-9-]{0,55}[a-z0-9])?")
"""Of a Knative Service: a DNS label that begins with a letter, and leaves room for `-00001`."""


@dataclass(frozen=True)
class Timeouts:
    """How long Knative lets things take, seconds."""

    request: int = 3600
    """From a request's arrival to its last token; a stream that takes longer is cut."""
    first_byte: int = 1800
    """Of it, to the first token, cold start included where it waits in Knative's activator."""
    most: int = DEFAULT_MOST_SECONDS
    """The cluster's `max-revision-timeout-seconds`: a Service that asks for more is refused."""
    progress: int = 1800
    """To a ready pod; then Knative calls the revision failed."""


@dataclass(frozen=True)
class PodPlan:
    """What a function's current revision is to be."""

    owner: Object
    """The Function object."""
    revision: Revision
    policy: Policy
    image: str
    """Where the manifest names none."""
    environment: Mapping[str, str]
    """Of the container; secrets are in `revision_secret`."""
    timeouts: Timeouts = Timeouts()
    storage_secret: str = ""
    """Secret with the pods' own credentials of the model store; empty: they have the platform's."""

    @property
    def kpa(self) -> bool:
        """Whether Knative's own autoscaler brings about the count."""
        return self.revision.template.autoscaler == "kpa"

    @property
    def labels(self) -> dict[str, str]:
        """Of everything that is made for it."""
        return {FUNCTION_LABEL: self.revision.function.name, **MANAGED_BY}


def unsuitable(name: str) -> str:
    """Why Knative takes no Service of that name, one sentence; empty: it does."""
    if NAME.fullmatch(name):
        return ""
    return f"metadata.name: {name} cannot be a Knative Service: expected a letter first and at most 57 characters"


def most_seconds(defaults: Object | None) -> int:
    """Longest timeout that a cluster allows, from Knative's ConfigMap `config-defaults`; None: it could not be read."""
    text = ((defaults or {}).get("data") or {}).get("max-revision-timeout-seconds", "")
    return int(text) if text.isdigit() else DEFAULT_MOST_SECONDS


def storage_secret_of(service: Object, revision: str) -> str | None:
    """`PodPlan.storage_secret` as a Service's template has it; None: the template is of another revision."""
    if _template_name(service) != revision:
        return None
    (container,) = service["spec"]["template"]["spec"]["containers"]
    sources = (each.get("secretRef", {}).get("name", "") for each in container.get("envFrom") or ())
    return next((name for name in sources if name != secret_name(revision)), "")


def knative_service(plan: PodPlan) -> dict[str, Any]:
    """The traffic block is left to users, so it is not in here."""
    return {
        "apiVersion": KNATIVE_SERVICE.api_version,
        "kind": KNATIVE_SERVICE.kind,
        "metadata": {
            "name": plan.revision.function.name,
            "namespace": plan.revision.function.namespace,
            "labels": plan.labels,
            "annotations": {names.INGRESS_CLASS: names.OUR_INGRESS_CLASS},
            "ownerReferences": [owner_reference(plan.owner, FUNCTION)],
        },
        "spec": {"template": _template(plan)},
    }


def service_change(plan: PodPlan, current: Object) -> list[dict[str, Any]]:
    """The JSON patch that puts a Service right; empty: it is as it should be.

    A template is only sent under a new name. Knative refuses any change of one under the same name, and a newer
    operator may build it differently: running revisions keep what they were made with.
    """
    wanted = knative_service(plan)
    changes = [
        {"op": "add", "path": f"/metadata/{field}", "value": {**has, **wanted["metadata"][field]}}
        for field, has in (("labels", labels_of(current)), ("annotations", annotations_of(current)))
        if not wanted["metadata"][field].items() <= has.items()
    ]
    if not _owned(current, plan.owner):
        value = wanted["metadata"]["ownerReferences"]
        changes.append({"op": "add", "path": "/metadata/ownerReferences", "value": value})
    if _template_name(current) != plan.revision.name:
        changes.append({"op": "add", "path": "/spec/template", "value": wanted["spec"]["template"]})
    return changes


def revision_secret(plan: PodPlan, storage: Mapping[str, str]) -> dict[str, Any]:
    """What a revision's pods must not show: the engine key and, by AWS's names, how they reach the model store."""
    ours = {name: value for name, value in storage.items() if not (plan.storage_secret and name in CREDENTIALS)}
    values = {**ours, KEY_VARIABLE: plan.revision.engine_key}
    return {
        "apiVersion": SECRET.api_version,
        "kind": SECRET.kind,
        "metadata": {
            "name": secret_name(plan.revision.name),
            "namespace": plan.revision.function.namespace,
            "labels": plan.labels,
            "ownerReferences": [owner_reference(plan.owner, FUNCTION)],
        },
        "type": "Opaque",
        "data": {name: b64encode(value.encode()).decode() for name, value in sorted(values.items())},
    }


def _template(plan: PodPlan) -> dict[str, Any]:
    template, timeouts = plan.revision.template, plan.timeouts
    request = min(timeouts.request, timeouts.most)
    return {
        "metadata": {
            "name": plan.revision.name,
            "labels": plan.labels,
            "annotations": {
                names.INITIAL_SCALE: "0",
                names.PROGRESS_DEADLINE: f"{timeouts.progress}s",
                names.FULL_DUPLEX: "Enabled",
                **(_knative_scales(plan) if plan.kpa else {names.CLASS: names.OUR_CLASS}),
            },
        },
        "spec": {
            # Ours caps what is in flight in the activator, by a number that may change without a new revision.
            "containerConcurrency": min(MOST_CONCURRENCY, template.slots) if plan.kpa else 0,
            "timeoutSeconds": request,
            # Knative's default for it is 300 s as soon as the other is longer.
            "responseStartTimeoutSeconds": min(timeouts.first_byte, request),
            **pod_spec(template, plan.image, plan.environment, _secrets(plan)),
        },
    }


def _secrets(plan: PodPlan) -> tuple[str, ...]:
    """What the function's owner gives overrides what we do."""
    return tuple(filter(None, (secret_name(plan.revision.name), plan.storage_secret)))


def _knative_scales(plan: PodPlan) -> dict[str, str]:
    retention = min(LONGEST_RETENTION_SECONDS, round(plan.policy.keep_alive_seconds))
    return {
        names.CLASS: names.KNATIVE_CLASS,
        names.MIN_SCALE: str(plan.policy.minimum),
        names.MAX_SCALE: str(plan.policy.maximum),
        names.TARGET: str(min(MOST_CONCURRENCY, plan.revision.template.slots)),
        names.BURST_CAPACITY: "-1",  # its activator stays in the path, so that it sees the demand
        names.RETENTION: f"{retention}s",
    }


def _owned(found: Object, owner: Object) -> bool:
    references = found["metadata"].get("ownerReferences") or ()
    return any(reference["uid"] == owner["metadata"]["uid"] for reference in references)


def _template_name(found: Object) -> str:
    return str(found["spec"]["template"].get("metadata", {}).get("name", ""))
