"""Finding a place for one replica after the other, and who makes way. All pure but for the tally it keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pilotlight.activator.values import FunctionId
from pilotlight.platform.control.space import Space, assign_cpus, free_space, place, shortage
from pilotlight.platform.control.world import Action, Drain, FunctionView, ReplicaView, Start, Wait, World
from pilotlight.runtime.spec import ReplicaState


def told_as(function: FunctionId, reader: FunctionId) -> str:
    """How a function is named where keys of `reader`'s namespace can read it: others' names are not theirs to know."""
    return str(function) if function.namespace == reader.namespace else "a function of another namespace"


@dataclass
class Placing:
    """The space that is left as one replica after the other is given its place."""

    world: World
    leaving: Mapping[str, object]
    actions: list[Action] = field(default_factory=list)
    evicted: list[FunctionId] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._now = free_space(self.world.room, self.world.replicas)
        self._gone = [r for r in self.world.replicas if not r.alive or r.id in self.leaving]
        self._coming = self._now.give_back(self._gone)
        self._cpus = [replica.cpus for replica in self.world.replicas if replica.cpus]

    def place(self, view: FunctionView, reason: str) -> None:
        if self.world.room.elsewhere:
            self.actions.append(Start(view.id, view.revision.name, (), (), reason))
            return
        devices = place(self._now, view.template)
        later = place(self._coming.settled(), view.template)
        if devices is not None and place(self._coming, view.template) is not None:
            self._start(view, devices, reason)
        elif later is not None:
            self._coming = self._coming.take(view.template, later)
            self.actions.append(Wait(view.id, "waits for replicas that end or start to be done"))
        else:
            self._evict(view)

    def _start(self, view: FunctionView, devices: tuple[str, ...], reason: str) -> None:
        cpus = () if devices else assign_cpus(self.world.room.cpus, self._cpus, view.template.cpus)
        self._cpus.append(cpus)
        self._now = self._now.take(view.template, devices)
        self._coming = self._coming.take(view.template, devices)
        self.actions.append(Start(view.id, view.revision.name, cpus, devices, reason))

    def _evict(self, view: FunctionView) -> None:
        victims = self._victims(view)
        if not victims:
            remaining = [replica for replica in self.world.replicas if replica not in self._gone]
            text = f"{shortage(view.template, self.world.room, remaining)}; nothing idle can make way"
            self.actions.append(Wait(view.id, text))
            return
        for victim in victims:
            self.actions.append(Drain(victim.id, f"idle, makes way for {told_as(view.id, victim.function)}", view.id))
            self._gone.append(victim)
            if not self._is_old(victim):
                self.evicted.append(victim.function)
        self._coming = self._coming.give_back(victims)
        devices = place(self._coming.settled(), view.template)
        if devices is not None:
            self._coming = self._coming.take(view.template, devices)
        names = ", ".join(sorted({told_as(victim.function, view.id) for victim in victims}))
        self.actions.append(Wait(view.id, f"waits until what is idle has made way: {names}"))

    def _victims(self, view: FunctionView) -> list[ReplicaView]:
        """The least recently used idle replicas that together make room, and not one more; empty: no set does."""
        chosen: list[ReplicaView] = []
        for candidate in self._candidates(view):
            chosen.append(candidate)
            if self._fits_without(view, chosen):
                break
        else:
            return []
        for victim in chosen[:-1]:
            rest = [replica for replica in chosen if replica is not victim]
            if self._fits_without(view, rest):
                chosen = rest
        return chosen

    def _fits_without(self, view: FunctionView, replicas: Sequence[ReplicaView]) -> bool:
        space: Space = self._coming.give_back(replicas).settled()
        return place(space, view.template) is not None

    def _candidates(self, view: FunctionView) -> list[ReplicaView]:
        views = {known.id: known for known in self.world.functions}
        spare = {known.id: self._spare(known) for known in self.world.functions}
        used = {known.id: known.load.last_active if known.load else 0.0 for known in self.world.functions}
        found: list[ReplicaView] = []
        for replica in sorted(self.world.replicas, key=lambda r: (used.get(r.function, 0.0), r.created_at)):
            owner = views.get(replica.function)
            if owner is None or replica in self._gone or not self._idle(replica, owner):
                continue
            if self._is_old(replica) and owner.id == view.id:
                found.append(replica)
            elif owner.id != view.id and spare[owner.id] > 0:
                spare[owner.id] -= 1
                found.append(replica)
        return found

    def _spare(self, view: FunctionView) -> int:
        alive = [r for r in self.world.replicas if r.function == view.id and r.alive and r not in self._gone]
        return len(alive) - view.policy.minimum

    def _is_old(self, replica: ReplicaView) -> bool:
        return all(
            view.revision.name != replica.revision for view in self.world.functions if view.id == replica.function
        )

    def _idle(self, replica: ReplicaView, owner: FunctionView) -> bool:
        known = owner.load is not None and owner.load.queued == 0
        return known and replica.state is ReplicaState.READY and replica.in_flight == 0
