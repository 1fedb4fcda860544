"""Functions at zero that nobody calls: a round leaves them as they are, so that ten thousand of them cost it little."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from pilotlight.activator.values import Demand, FunctionId
from pilotlight.detector.values import Decision
from pilotlight.platform.control.counting import scaled_by_knative
from pilotlight.platform.control.state import Known
from pilotlight.platform.control.world import FunctionView, Plan, World
from pilotlight.platform.values import Function


@dataclass(frozen=True)
class _Rest:
    """What a function at rest was decided from."""

    function: Function
    demand: Demand


class Resting:
    """Deciding again about a function at rest gives the same, whenever: the time since the last decision counts only
    where there are replicas, or changes that are not allowed yet."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._rests: dict[FunctionId, _Rest] = {}

    def awake(self, demands: Mapping[FunctionId, Demand], woken: Collection[FunctionId]) -> list[FunctionId]:
        """Functions that this round has to look at, in their order."""
        busy = {live.record.function for live in self._known.live.values()}
        busy |= {revision.function for revision in self._known.beside} | set(woken)
        functions = self._known.functions
        return [name for name in functions if name in busy or not self._rests_on(functions[name], demands.get(name))]

    def note(self, world: World, plan: Plan, demands: Mapping[FunctionId, Demand]) -> None:
        """After a round: who rests from here on. `world` has those that were awake."""
        occupied = {replica.function for replica in world.replicas} | {view.id for view in world.beside}
        occupied |= {live.record.function for live in self._known.live.values()}
        for view in world.functions:
            demand = demands.get(view.id)
            rests = demand is not None and view.id not in occupied and self._may_rest(view, plan.decisions[view.id])
            if demand is not None and rests:
                self._rests[view.id] = _Rest(self._known.functions[view.id], demand)
            else:
                self._rests.pop(view.id, None)
        for gone in self._rests.keys() - self._known.functions.keys():
            del self._rests[gone]

    def stir(self, models: Collection[tuple[str, str]]) -> None:
        """Functions of these models, digest and kind of engine: what is told of their next start has changed."""
        if models:
            self._rests = {name: rest for name, rest in self._rests.items() if self._model(rest.function) not in models}

    def _rests_on(self, function: Function, demand: Demand | None) -> bool:
        rest = self._rests.get(function.id)
        return rest is not None and rest.demand == demand and rest.function == function

    def _may_rest(self, view: FunctionView, decision: Decision) -> bool:
        """Knative's bounds are told again in every round, since nobody else would notice when they are changed."""
        idle = view.load is not None and view.load.queued == view.load.in_flight == 0
        as_before = replace(decision.state, decided_at=view.state.decided_at) == view.state
        settled = decision.desired == 0 and as_before and not view.state.back_off.failures
        return idle and settled and not self._known.memory[view.id].waits and not scaled_by_knative(view.revision)

    def _model(self, function: Function) -> tuple[str, str]:
        template = self._known.revisions[function.id, function.revision].template
        return template.digest, template.kind
