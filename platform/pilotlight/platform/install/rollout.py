"""How far a Deployment is, and what keeps it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pilotlight.platform.kubernetes.kinds import Object, condition
from pilotlight.platform.kubernetes.pods import failure_of, is_ready, leaves, waits_for


@dataclass(frozen=True)
class Rollout:
    """One Deployment on its way."""

    name: str
    wanted: int
    available: int
    done: bool
    reason: str = ""
    """What keeps it; empty: it is done, or nothing is known yet."""
    pod: str = ""
    """The pod that the reason is about."""

    def __str__(self) -> str:
        state = "available" if self.done else f"{self.available} of {self.wanted} available"
        return f"{self.name}: {state}" + (f" ({self.reason})" if self.reason else "")


def rollout(deployment: Object, pods: Sequence[Object], now: float) -> Rollout:
    """`pods`: those of the Deployment's selector; `now`: Unix time."""
    name, wanted = deployment["metadata"]["name"], deployment["spec"].get("replicas", 1)
    status = deployment.get("status", {})
    available = status.get("availableReplicas", 0)
    seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    updated = status.get("updatedReplicas", 0)
    if seen and updated >= wanted and available >= wanted and status.get("replicas", 0) == updated:
        return Rollout(name, wanted, available, done=True)
    pod, reason = _obstacle(pods, now)
    refused = condition(deployment, "ReplicaFailure")
    if refused.get("status") == "True":
        pod, reason = "", str(refused.get("message", ""))
    return Rollout(name, wanted, available, done=False, reason=reason, pod=pod)


def selector(deployment: Object) -> str:
    """For a list of its pods."""
    return ",".join(f"{key}={value}" for key, value in deployment["spec"]["selector"]["matchLabels"].items())


def _obstacle(pods: Sequence[Object], now: float) -> tuple[str, str]:
    for pod in (pod for pod in pods if not is_ready(pod) and not leaves(pod)):
        if reason := failure_of(pod, patience=0.0, now=now) or waits_for(pod):
            return pod["metadata"]["name"], reason
    return "", ""
