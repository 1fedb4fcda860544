"""Where the time of one start in a cluster went. Pure: from what was seen to consecutive parts.

Whose clock a moment is read from:

- request and first byte: the client's, in a pod;
- decision: the leader's, as its record of decisions has it;
- scale patch, pod scheduled, address: when a watch of this machine showed them, which is a little after they were, put
  onto the client's clock;
- container started and every phase of the engine: the replica's supervisor.

On a cluster of one node the clients', the leader's and the replica's clock are one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pilotlight.platform.kubernetes.kinds import Object, labels_of
from pilotlight.platform.kubernetes.knative.names import REVISION_LABEL, deployment_name

Seen = Sequence[tuple[float, Object]]
"""States of objects, each with the time at which it was seen; oldest first."""
ENGINE = ("fetch", "import", "load", "warmup")


@dataclass(frozen=True)
class Start:
    """One start, all times Unix seconds."""

    side: str
    load: float
    """The machine's, over the minute before."""
    sent: float
    decided: float | None
    """None: by Knative's autoscaler, which does not tell."""
    patched: float
    scheduled: float
    addressed: float
    """When Kubernetes first told the pod's address: nobody can send there before, however soon the engine is ready."""
    phases: Mapping[str, tuple[float, float]]
    """Of the supervisor: begin and end."""
    first: float
    """The engine's first byte, at the client."""
    token: float
    """The first token with text."""

    @property
    def ready(self) -> float:
        return self.phases["ready"][0]

    @property
    def asked(self) -> float:
        """Request to scale patch, seconds."""
        return self.patched - self.sent

    @property
    def routed(self) -> float:
        """Engine ready to first forwarded byte, seconds."""
        return self.first - self.ready

    @property
    def own(self) -> float:
        """What is not Kubernetes' and not the engine's."""
        return self.asked + self.routed

    @property
    def whole(self) -> float:
        return self.token - self.sent

    def parts(self) -> dict[str, float]:
        """Seconds, one after the other; together the whole."""
        began = min(begin for begin, _ in self.phases.values())
        engine = {name: self.phases[name][1] - self.phases[name][0] for name in ENGINE if name in self.phases}
        decided = self.patched if self.decided is None else self.decided
        return {
            "decision": decided - self.sent,
            "scale patch": self.patched - decided,
            "pod scheduled": self.scheduled - self.patched,
            "container started": began - self.scheduled,
            **engine,
            "engine ready": self.ready - began - sum(engine.values()),
            "routed": self.routed,
            "first token": self.token - self.first,
        }


def patched(deployments: Seen, revision: str, since: float) -> float:
    """When the revision was first seen with a replica asked for. Raises LookupError."""
    name = deployment_name(revision)
    for at, found in deployments:
        if at >= since and found["metadata"]["name"] == name and found["spec"].get("replicas"):
            return at
    raise LookupError(f"{name} was not seen to be scaled up")


def scheduled(pods: Seen, revision: str, since: float) -> tuple[float, str]:
    """When the revision's first pod was first seen on a node, and its name. Raises LookupError."""
    for at, pod in pods:
        if at >= since and labels_of(pod).get(REVISION_LABEL) == revision and pod["spec"].get("nodeName"):
            return at, str(pod["metadata"]["name"])
    raise LookupError(f"no pod of {revision} was seen on a node")


def addressed(pods: Seen, name: str) -> float:
    """When the pod was first seen with an address. Raises LookupError."""
    for at, pod in pods:
        if pod["metadata"]["name"] == name and pod["status"].get("podIP"):
            return at
    raise LookupError(f"pod {name} was not seen with an address")


def decided(decisions: Iterable[Mapping[str, Any]], since: float) -> float | None:
    """When the platform first decided for a replica; None: it did not."""
    return min((each["at"] for each in decisions if each["desired"] and each["at"] >= since), default=None)


def phases(status: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Of a supervisor's own account; a phase that goes on ends where it began."""
    return {each["name"]: (each["start"], each["end"] or each["start"]) for each in status["phases"]}
