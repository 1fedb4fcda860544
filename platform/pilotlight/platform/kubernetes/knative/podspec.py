"""What is in the pod of a revision, as far as Knative lets one say it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pilotlight.platform.kubernetes.nodes import GPU
from pilotlight.platform.values import Template
from pilotlight.runtime.podspec import (
    COMMAND,
    ENGINE_PORT,
    HEALTH_TARGET,
    SCRATCH_FOLDER,
    SHARED_MEMORY_FOLDER,
    USER_ID,
)

MILLI = 1000

READINESS = {
    "httpGet": {"path": HEALTH_TARGET, "port": ENGINE_PORT},
    "periodSeconds": 1,
    "timeoutSeconds": 5,
    "successThreshold": 1,
    "failureThreshold": 3,
}
"""An engine may take its time to start: readiness alone restarts nothing, and there is no probe that does.

A startup probe or one by command would keep queue-proxy from probing for itself, and so Knative's activator from
sending before the kubelet has looked. Five seconds, because an engine under full load answers late.
"""

CONFINED = {
    "runAsNonRoot": True,
    "runAsUser": USER_ID,
    "runAsGroup": USER_ID,
    "readOnlyRootFilesystem": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""Of the container: a security context of the pod needs a feature flag of Knative."""

PLACEMENT = ("nodeSelector", "tolerations", "priorityClassName", "runtimeClassName")
"""Of the manifest's `spec.pod`; each needs its feature flag in Knative, so what is not given is not named."""


def pod_spec(template: Template, image: str, environment: Mapping[str, str], secrets: Sequence[str]) -> dict[str, Any]:
    """The fields of a RevisionSpec that are a pod's.

    Args:
        template: Sizes, and the manifest's `spec.pod`.
        image: Where the manifest names none.
        environment: Of the container; not the names that Knative keeps for itself (PORT, K_*).
        secrets: Names of the Secrets with more of it; of a name that is in several the last one counts.
    """
    given = template.pod
    names = given.get("imagePullSecrets")
    spec: dict[str, Any] = {
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "containers": [_container(template, str(given.get("image") or image), environment, secrets)],
        "volumes": _volumes(template),
    }
    if account := given.get("serviceAccountName"):
        spec["serviceAccountName"] = account
    if isinstance(names, list | tuple) and names:
        spec["imagePullSecrets"] = [{"name": name} for name in names]
    return spec | {name: given[name] for name in PLACEMENT if given.get(name)}


def _container(
    template: Template, image: str, environment: Mapping[str, str], secrets: Sequence[str]
) -> dict[str, Any]:
    return {
        "image": image,
        "command": list(COMMAND),
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": name, "value": value} for name, value in sorted(environment.items())],
        "envFrom": [{"secretRef": {"name": name}} for name in secrets],
        "ports": [{"containerPort": ENGINE_PORT}],
        "readinessProbe": READINESS,
        "resources": _resources(template),
        "securityContext": CONFINED,
        "volumeMounts": [
            {"name": "scratch", "mountPath": SCRATCH_FOLDER},
            {"name": "shared-memory", "mountPath": SHARED_MEMORY_FOLDER},
        ],
    }


def _resources(template: Template) -> dict[str, Any]:
    """Processors are shared out by request and may be used beyond it; memory is what it is."""
    memory = str(template.memory_bytes)
    limits = {"memory": memory}
    if template.devices:
        limits[GPU] = str(template.devices)
    return {"requests": {"cpu": f"{max(1, round(template.cpus * MILLI))}m", "memory": memory}, "limits": limits}


def _volumes(template: Template) -> list[dict[str, Any]]:
    """What is written to shared memory counts towards the container's limit."""
    shared = {"medium": "Memory", "sizeLimit": str(template.memory_bytes)}
    return [{"name": "scratch", "emptyDir": {}}, {"name": "shared-memory", "emptyDir": shared}]
