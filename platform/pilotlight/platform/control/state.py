"""What the control loop remembers between two looks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from pilotlight.activator.values import FunctionId
from pilotlight.detector.backoff import after_crash, after_success
from pilotlight.detector.values import State
from pilotlight.platform.control.cluster import RevisionId
from pilotlight.platform.control.world import ReplicaView
from pilotlight.platform.values import Desired, Function, ReplicaRecord, Revision
from pilotlight.runtime.spec import ReplicaState, ReplicaStatus


@dataclass
class Live:
    """A replica that has not ended."""

    record: ReplicaRecord
    revision: Revision
    status: ReplicaStatus | None = None
    ready_at: float | None = None
    leaving_at: float | None = None
    """Monotonic, as `asked_at`: a clock that is set must not keep it here."""
    asked_at: float | None = None
    """When it was last asked to drain or stop."""

    @property
    def wanted(self) -> bool:
        return self.record.desired is Desired.RUNNING

    def state(self) -> ReplicaState:
        """STARTING, READY or DRAINING, as the plan sees it."""
        if not self.wanted:
            return ReplicaState.DRAINING
        if self.status is None:
            return ReplicaState.STARTING
        return self.status.state

    def view(self, in_flight: int) -> ReplicaView:
        template = self.revision.template
        return ReplicaView(
            id=self.record.id,
            function=self.record.function,
            revision=self.record.revision,
            state=self.state(),
            in_flight=in_flight,
            memory_bytes=template.memory_bytes,
            device_bytes=template.device_bytes,
            created_at=self.record.created_at,
            cpus=self.record.cpus,
            devices=self.record.devices,
            ready_at=self.ready_at,
        )

    def leave(self, desired: Desired, now: float) -> None:
        self.record = replace(self.record, desired=desired)
        self.leaving_at = now


@dataclass
class Memory:
    """Per function: what the policy carries on, and the crashes of its present revision."""

    state: State
    revision: str
    waits: str = ""
    """Why a wanted replica has no place; empty: none waits."""
    decided: tuple[int, str] = (-1, "")
    """The last decision that was recorded."""
    crashed_at: float = 0.0
    """Unix time at which one of its replicas last failed; 0: none has."""

    def follow(self, revision: str) -> None:
        """A new revision does not inherit the old one's crashes."""
        if revision != self.revision:
            self.revision = revision
            self.succeeded()

    def crashed(self, now: float, message: str, served: bool) -> None:
        self.state = replace(self.state, back_off=after_crash(self.state.back_off, now, message, served))
        self.crashed_at = now

    def succeeded(self) -> None:
        self.state = replace(self.state, back_off=after_success())


@dataclass
class Known:
    """Everything."""

    functions: dict[FunctionId, Function] = field(default_factory=dict)
    revisions: dict[tuple[FunctionId, str], Revision] = field(default_factory=dict)
    live: dict[str, Live] = field(default_factory=dict)
    memory: dict[FunctionId, Memory] = field(default_factory=dict)
    """Of each function's own revision."""
    beside: dict[RevisionId, Memory] = field(default_factory=dict)
    """Of older revisions that have a share of the traffic."""
    caps: dict[RevisionId, int] = field(default_factory=dict)
    """Requests that one replica has in flight at most just now, where that was learned; see `slots`."""

    def slots(self, revision: Revision) -> int:
        """Requests that one replica of the revision takes just now: its engine's limit, or the learned cap below it."""
        limit = revision.template.slots
        return min(limit, self.caps.get(RevisionId(revision.function, revision.name), limit))

    def of(self, function: FunctionId) -> list[Live]:
        return [live for live in self.live.values() if live.record.function == function]

    def remember(self, shared: Mapping[FunctionId, Collection[str]], now: float) -> None:
        """Every function and every revision beside one has its memory; those of others are forgotten.

        Args:
            shared: Revisions that users have given a share of the traffic.
            now: Unix time.
        """
        beside = self._beside(shared)
        self.beside = {at: self.beside.get(at) or self._new_memory(at, {at.name}, now) for at in beside}
        for function in self.functions.values():
            memory = self.memory.get(function.id)
            if memory is None:
                rolling = {name for id_, name in self.revisions if id_ == function.id and (id_, name) not in beside}
                self.memory[function.id] = self._new_memory(RevisionId(function.id, function.revision), rolling, now)
            else:
                memory.follow(function.revision)
        for gone in self.memory.keys() - self.functions.keys():
            del self.memory[gone]

    def _new_memory(self, at: RevisionId, counted: Collection[str], now: float) -> Memory:
        """What runs of the revisions that are counted is kept alive as if we had decided so."""
        alive = sum(live.wanted and live.record.revision in counted for live in self.of(at.function))
        return Memory(State(since=now, desired=alive), at.name)

    def _beside(self, shared: Mapping[FunctionId, Collection[str]]) -> list[RevisionId]:
        """Older revisions with a share of the traffic, as far as they are known."""
        return [
            RevisionId(name, revision)
            for name, revisions in sorted(shared.items())
            for revision in sorted(revisions)
            if name in self.functions
            and revision != self.functions[name].revision
            and (name, revision) in self.revisions
        ]

    def memory_of(self, function: FunctionId, revision: str) -> Memory | None:
        """None: it is neither the function's own nor one beside it."""
        memory = self.memory.get(function)
        if memory is not None and memory.revision == revision:
            return memory
        return self.beside.get(RevisionId(function, revision))
