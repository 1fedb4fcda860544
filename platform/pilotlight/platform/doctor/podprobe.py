"""Runs `probing` in a short-lived pod beside the operator."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from typing import Any

from pilotlight.platform.doctor.facts import Probe
from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.errors import KubernetesError, UnreachableError
from pilotlight.platform.kubernetes.kinds import MANAGED_BY, POD, Object
from pilotlight.platform.kubernetes.pods import failure_of, waits_for

BUCKET = "models"
PATIENCE_SECONDS = 90.0
LOOK_SECONDS = 0.5
CONTAINER = "doctor"
SECRETS = frozenset({"pilotlight-database", "pilotlight-s3"})
OTHERS_MESSAGE = 300


def probe(api: Api, operator: Object, pause: Callable[[float], None] = time.sleep) -> Probe:
    """Blocking. Raises KubernetesError when the pod could not be run to its end; it is deleted in any case."""
    pod = pod_of(operator, f"pilotlight-doctor-{secrets.token_hex(3)}")
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    api.create(POD, pod)
    try:
        _until_ended(api, namespace, name, pause)
        lines = list(api.log(namespace, name, CONTAINER, tail=1, follow=False))
    finally:
        api.delete(POD, namespace, name)
    return _read(name, lines[-1] if lines else b"")


def pod_of(operator: Object, name: str) -> dict[str, Any]:
    """A pod with the operator's image, settings and Secrets, and none of its rights."""
    spec = operator["spec"]["template"]["spec"]
    container = spec["containers"][0]
    environment = [each for each in container["env"] if each["name"] == "PILOTLIGHT_DATABASE_URL"]
    sources = [
        each
        for each in container["envFrom"]
        if "configMapRef" in each or each.get("secretRef", {}).get("name") in SECRETS
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": operator["metadata"]["namespace"],
            "name": name,
            "labels": {**MANAGED_BY, "app.kubernetes.io/name": "pilotlight-doctor"},
        },
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": int(PATIENCE_SECONDS),
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "imagePullSecrets": spec.get("imagePullSecrets", []),
            "securityContext": spec["securityContext"],
            "containers": [
                {
                    "name": CONTAINER,
                    "image": container["image"],
                    "imagePullPolicy": container.get("imagePullPolicy", "IfNotPresent"),
                    "command": ["python3", "-m", "pilotlight.platform.doctor.probing", BUCKET],
                    "env": environment,
                    "envFrom": sources,
                    "securityContext": container["securityContext"],
                    "resources": {"requests": {"cpu": "10m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
                }
            ],
        },
    }


def _until_ended(api: Api, namespace: str, name: str, pause: Callable[[float], None]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = api.get(POD, namespace, name)
        if found["status"].get("phase") in ("Succeeded", "Failed"):
            return
        why = failure_of(found, patience=PATIENCE_SECONDS, now=time.time()) or waits_for(found)
        if time.monotonic() > deadline:
            raise UnreachableError(f"running pod {name}", 0, "Timeout", why or f"not ended in {PATIENCE_SECONDS:.0f} s")
        pause(LOOK_SECONDS)


def _read(name: str, line: bytes) -> Probe:
    try:
        said = json.loads(line)
        return Probe(str(said["s3"]), str(said["database"]))
    except (ValueError, KeyError, TypeError) as error:
        text = line.decode("utf-8", "replace").strip()[:OTHERS_MESSAGE]
        raise KubernetesError(f"reading what pod {name} said", 0, "Unreadable", text or "nothing") from error
