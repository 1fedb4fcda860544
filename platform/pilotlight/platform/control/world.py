"""What the control loop sees in one look, and what it may do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pilotlight.activator.values import FunctionId
from pilotlight.detector.values import Decision, Load, State
from pilotlight.platform.control.cluster import RevisionId
from pilotlight.platform.values import Policy, Revision, Template
from pilotlight.runtime.spec import ReplicaState


@dataclass(frozen=True)
class ReplicaView:
    """A replica that holds resources."""

    id: str
    function: FunctionId
    revision: str
    state: ReplicaState  # STARTING, READY or DRAINING
    in_flight: int
    memory_bytes: int
    device_bytes: int
    created_at: float
    cpus: tuple[int, ...] = ()
    devices: tuple[str, ...] = ()
    ready_at: float | None = None
    """Unix time at which it was first seen ready."""

    @property
    def alive(self) -> bool:
        """Takes work, or soon will."""
        return self.state in (ReplicaState.STARTING, ReplicaState.READY)

    @property
    def ready(self) -> bool:
        return self.state is ReplicaState.READY


@dataclass(frozen=True)
class FunctionView:
    """A function, its load and what the policy remembers of it."""

    id: FunctionId
    revision: Revision
    policy: Policy
    load: Load | None
    state: State
    slots: int | None = None
    """Requests that one replica takes just now; None: as many as its engine does."""

    @property
    def template(self) -> Template:
        return self.revision.template

    @property
    def at(self) -> RevisionId:
        return RevisionId(self.id, self.revision.name)


@dataclass(frozen=True)
class Room:
    """What replicas may use of this machine."""

    memory_bytes: int
    cpus: int
    devices: Mapping[str, int]
    """Memory by device UUID, bytes."""
    elsewhere: bool = False
    """Others find the place of each replica: Kubernetes' scheduler."""


@dataclass(frozen=True)
class World:
    """One look at everything."""

    now: float
    room: Room
    functions: tuple[FunctionView, ...]
    replicas: tuple[ReplicaView, ...]
    beside: tuple[FunctionView, ...] = ()
    """Older revisions that users have given a share of the traffic: each with its own load and state."""

    def rolling(self) -> list[ReplicaView]:
        """Replicas that a newer revision may replace: those of revisions beside it serve on for themselves."""
        kept = {view.at for view in self.beside}
        return [replica for replica in self.replicas if RevisionId(replica.function, replica.revision) not in kept]


@dataclass(frozen=True)
class Start:
    function: FunctionId
    revision: str
    cpus: tuple[int, ...]
    devices: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Drain:
    """No new work; running streams finish, then it stops."""

    replica: str
    reason: str
    makes_way_for: FunctionId | None = None


@dataclass(frozen=True)
class Stop:
    """At once; only for one that serves nobody."""

    replica: str
    reason: str


@dataclass(frozen=True)
class Wait:
    """A replica that is wanted has no place yet."""

    function: FunctionId
    reason: str


Action = Start | Drain | Stop | Wait


@dataclass(frozen=True)
class Plan:
    """What to do now, and what to remember for the next look."""

    actions: tuple[Action, ...]
    decisions: Mapping[FunctionId, Decision]
    beside: Mapping[RevisionId, Decision] = field(default_factory=dict)
