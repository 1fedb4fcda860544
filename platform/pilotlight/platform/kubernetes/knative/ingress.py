"""Knative's ingresses of our class: the activator serves them, and this says so in their status.

Blocking, level-triggered. What the activator routes by is `rules.read`.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pilotlight.activator.values import Clock
from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.errors import ConflictError, KubernetesError, NotFoundError
from pilotlight.platform.kubernetes.kinds import INGRESS, Key, Object, annotations_of
from pilotlight.platform.kubernetes.knative import names
from pilotlight.platform.kubernetes.knative.conditions import TRUE, false, unknown, written
from pilotlight.platform.kubernetes.knative.rules import read
from pilotlight.platform.kubernetes.mirror import Mirror

ACTIVATOR = "pilotlight-activator.pilotlight-system.svc.cluster.local"
TOGETHER = 8
"""Ingresses that are written at once."""


def status(ingress: Object, activator: str, routable: bool, now: float) -> Mapping[str, Any] | None:
    """What is to be written, a merge patch; None: it is so already.

    Args:
        ingress: As the API server has it.
        activator: Name of the activator's Service inside the cluster; Knative points the function's own name at it.
        routable: Whether there is an activator that takes requests.
        now: Unix time.
    """
    problem = read(ingress).problem
    balancer = {"ingress": [{"domainInternal": activator}]}
    parts = {
        "LoadBalancerReady": TRUE if routable else unknown("Waiting", "No activator takes requests."),
        "NetworkConfigured": false("Unsupported", problem) if problem else TRUE,
    }
    wanted = {
        "observedGeneration": ingress["metadata"]["generation"],
        "publicLoadBalancer": balancer,
        "privateLoadBalancer": balancer,
        "conditions": written(ingress, parts, now),
    }
    before = ingress.get("status", {})
    return None if all(before.get(field) == value for field, value in wanted.items()) else wanted


class Ingresses:
    """Owns the status of every ingress of its class."""

    def __init__(
        self,
        api: Api,
        ingresses: Mirror,
        clock: Clock,
        activator: str = ACTIVATOR,
        class_name: str = names.OUR_INGRESS_CLASS,
    ) -> None:
        self._api = api
        self._ingresses = ingresses
        self._clock = clock
        self._activator = activator
        self._class = class_name
        self._threads = ThreadPoolExecutor(TOGETHER, thread_name_prefix="ingresses")

    def reconcile(self, routable: bool) -> Mapping[Key, str]:
        """Write what differs; what could not be written, by ingress, one sentence."""
        changes = {
            key: wanted
            for key, found in self._ingresses.objects.items()
            if self._owns(found) and (wanted := status(found, self._activator, routable, self._clock.now())) is not None
        }
        answers = self._threads.map(self._write, changes, changes.values())
        return {key: problem for key, problem in zip(changes, answers, strict=True) if problem}

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def _owns(self, ingress: Object) -> bool:
        return is_ours(ingress, self._class)

    def _write(self, key: Key, wanted: Mapping[str, Any]) -> str:
        try:
            self._api.patch(INGRESS, *key, {"status": wanted}, "status")
        except (ConflictError, NotFoundError):
            return ""
        except KubernetesError as error:
            return str(error)
        return ""


def is_ours(ingress: Object, class_name: str = names.OUR_INGRESS_CLASS) -> bool:
    """Whether it is for the activator to serve."""
    ours = annotations_of(ingress).get(names.INGRESS_CLASS) == class_name
    return ours and "deletionTimestamp" not in ingress["metadata"]
