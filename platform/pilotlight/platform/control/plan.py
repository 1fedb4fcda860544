"""What to start, drain and stop: one pure function over one look at the world.

Numbered policy:
1. every function gets the count that the detector decides;
2. a replica of a deleted function drains;
3. a surplus goes: what still starts first, then what serves fewest;
4. an old revision serves until enough of the new one is ready, then drains; without demand it goes at once;
5. a missing replica starts where there is room, functions without any replica first;
6. without room, the least recently used idle replicas of others make way, never busy ones nor below a minimum;
7. when that does not suffice, it waits, and says for what;
8. of a function that Knative's autoscaler scales, only the count is decided: it is the floor that Knative is given;
9. an older revision that users have given a share of the traffic is scaled by its own demand, and nothing replaces it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pilotlight.detector.policy import decide
from pilotlight.detector.values import Decision, Limits
from pilotlight.platform.control.cluster import RevisionId
from pilotlight.platform.control.counting import scaled_by_knative
from pilotlight.platform.control.placing import Placing
from pilotlight.platform.control.world import (
    Drain,
    FunctionView,
    Plan,
    ReplicaView,
    Stop,
    World,
)


def plan(world: World) -> Plan:
    """The actions for this moment; none when everything is as it should be."""
    views = (*world.functions, *world.beside)
    decided = {view.at: _decide(view, world) for view in views}
    leaving = _leaving(world, decided)
    placing = Placing(world, leaving)
    for view in sorted(views, key=lambda view: _urgency(view, world)):
        if _left_to_knative(view, world):
            continue
        missing = decided[view.at].desired - sum(r.alive for r in _current(view, world) if r.id not in leaving)
        for _ in range(missing):
            placing.place(view, decided[view.at].sentence)
    decisions = {view.id: decided[view.at] for view in world.functions}
    for evicted in placing.evicted:
        decisions[evicted] = _one_fewer(decisions[evicted])
    going = tuple(leaving[name] for name in leaving)
    return Plan((*going, *placing.actions), decisions, {view.at: decided[view.at] for view in world.beside})


def _decide(view: FunctionView, world: World) -> Decision:
    alive = [replica for replica in _current(view, world) if replica.alive]
    state = replace(
        view.state,
        alive=len(alive),
        starting=sum(not replica.ready for replica in alive),
        ready_at=max((replica.ready_at for replica in alive if replica.ready_at is not None), default=0.0),
    )
    return decide(state, view.load, limits(view), world.now)


def limits(view: FunctionView) -> Limits:
    """The function's policy in the detector's terms."""
    return Limits(
        minimum=view.policy.minimum,
        maximum=view.policy.maximum,
        keep_alive_seconds=view.policy.keep_alive_seconds,
        slots=view.template.slots if view.slots is None else view.slots,
    )


def serving(view: FunctionView, replicas: Sequence[ReplicaView], desired: int) -> str:
    """The revision that new work goes to: the old one until enough of the new one is ready.

    `replicas`: those of `World.rolling`.
    """
    old = [r for r in replicas if r.function == view.id and r.revision != view.revision.name and r.ready]
    new = sum(r.ready for r in replicas if r.function == view.id and r.revision == view.revision.name)
    if desired == 0 or not old or new >= min(desired, len(old)):
        return view.revision.name
    return max(old, key=lambda replica: replica.created_at).revision


def _current(view: FunctionView, world: World) -> list[ReplicaView]:
    return [r for r in world.replicas if r.function == view.id and r.revision == view.revision.name]


def _leaving(world: World, decided: Mapping[RevisionId, Decision]) -> dict[str, Drain | Stop]:
    views = {view.id: view for view in world.functions}
    going: dict[str, Drain | Stop] = {}
    for replica in world.replicas:
        if replica.alive and replica.function not in views:
            going[replica.id] = _leave(replica, "the function was deleted")
    surplus = [pair for view in (*world.functions, *world.beside) for pair in _surplus(view, world, decided[view.at])]
    outdated = [pair for view in world.functions for pair in _outdated(view, world, decided[view.at].desired)]
    for replica, reason in (*surplus, *outdated):
        going[replica.id] = _leave(replica, reason)
    return going


def _left_to_knative(view: FunctionView, world: World) -> bool:
    """Its count is brought about by Knative's autoscaler, which is told of no single replica."""
    return world.room.elsewhere and scaled_by_knative(view.revision)


def _surplus(view: FunctionView, world: World, decision: Decision) -> list[tuple[ReplicaView, str]]:
    if _left_to_knative(view, world):
        return []
    alive = [replica for replica in _current(view, world) if replica.alive]
    spare = len(alive) - decision.desired
    order = sorted(alive, key=lambda replica: (replica.ready, replica.in_flight, -replica.created_at))
    return [(replica, decision.sentence) for replica in order[: max(0, spare)]]


def _outdated(view: FunctionView, world: World, desired: int) -> list[tuple[ReplicaView, str]]:
    rolling = world.rolling()
    old = [r for r in rolling if r.function == view.id and r.revision != view.revision.name and r.alive]
    switched = serving(view, rolling, desired) == view.revision.name
    reason = f"revision {view.revision.name} takes over"
    return [(replica, reason) for replica in old if switched or not replica.ready]


def _leave(replica: ReplicaView, reason: str) -> Drain | Stop:
    return Drain(replica.id, reason) if replica.ready else Stop(replica.id, reason)


def _urgency(view: FunctionView, world: World) -> tuple[bool, bool, float]:
    """Who is placed first: no replica at all, then work that waits, then whoever has waited longest."""
    served = any(replica.ready for replica in world.replicas if replica.function == view.id)
    waiting = view.load is not None and view.load.queued > 0
    return served, not waiting, view.load.last_active if view.load else 0.0


def _one_fewer(decision: Decision) -> Decision:
    """An evicted function must not ask for its replica again before it has work."""
    desired = max(0, decision.desired - 1)
    return replace(decision, state=replace(decision.state, desired=desired))
