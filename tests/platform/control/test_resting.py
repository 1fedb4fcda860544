"""Functions at zero that nobody calls cost a round nothing, and wake for everything that bears on them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pilotlight.activator.values import Demand, FunctionId, Route
from pilotlight.platform.control import controller
from pilotlight.platform.control.plan import plan
from pilotlight.platform.control.world import Plan, World
from pilotlight.platform.database.functions import Change
from pilotlight.platform.values import Policy, Template
from pilotlight.runtime.spec import ReplicaState

if TYPE_CHECKING:
    from tests.platform.control.conftest import Stage

CHAT = FunctionId("team-a", "chat")
OTHERS = [FunctionId("team-a", f"other-{number}") for number in range(3)]


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[set[FunctionId]]:
    """Functions of each round's plan."""
    seen: list[set[FunctionId]] = []

    def noted(world: World) -> Plan:
        seen.append({view.id for view in world.functions})
        return plan(world)

    monkeypatch.setattr(controller, "plan", noted)
    return seen


@pytest.fixture
async def resting(stage: Stage, template: Template, looked_at: list[set[FunctionId]]) -> Stage:
    """`chat` and three others, of which the last is of another model; all at rest."""
    changes = [Change(name, {}, Policy(keep_alive_seconds=5.0), template) for name in (CHAT, *OTHERS[:2])]
    changes.append(Change(OTHERS[2], {}, Policy(), replace(template, digest=f"sha256:{'b' * 64}")))
    stage.functions.apply(changes, stage.clock.now())
    stage.loop.changed()
    for _ in range(3):
        await stage.loop.round()
    assert looked_at.pop() == set()
    looked_at.clear()
    return stage


def told(stage: Stage) -> dict[FunctionId, Route]:
    return dict(stage.traffic.routes)


async def test_what_rests_is_told_by_the_same_routes(resting: Stage, looked_at: list[set[FunctionId]]) -> None:
    before = told(resting)
    await resting.loop.round()
    assert looked_at == [set()]
    assert before.keys() == told(resting).keys() == {CHAT, *OTHERS}
    assert all(route is before[name] for name, route in told(resting).items())


async def test_a_wake_and_demand_concern_one_function(resting: Stage, looked_at: list[set[FunctionId]]) -> None:
    resting.loop.wake(OTHERS[0])
    await resting.loop.round()
    resting.traffic.work[CHAT] = Demand(1, 0, 1, resting.clock.now())
    await resting.loop.round()
    assert looked_at == [{OTHERS[0]}, {OTHERS[0], CHAT}]
    assert [spec.function for spec in resting.cluster.specs.values()] == ["team-a/other-0", "team-a/chat"]


async def test_a_start_that_takes_as_long_as_before_is_told_anew(resting: Stage) -> None:
    """What is expected of it counts from the telling, and would else run out."""
    resting.traffic.work[CHAT] = Demand(1, 0, 1, resting.clock.now())
    await resting.loop.round()
    await resting.loop.round()
    before = told(resting)
    await resting.loop.round()
    assert before[CHAT].starts
    assert told(resting)[CHAT] is not before[CHAT]
    assert told(resting)[OTHERS[0]] is before[OTHERS[0]]


async def test_it_rests_again_when_its_replica_has_gone(resting: Stage, looked_at: list[set[FunctionId]]) -> None:
    resting.traffic.work[CHAT] = Demand(1, 0, 1, resting.clock.now())
    await resting.loop.round()
    name = resting.cluster.only()
    resting.cluster.say(name, ReplicaState.READY)
    resting.traffic.work[CHAT] = Demand(0, 0, 1, resting.clock.now())
    await resting.loop.round()
    for _ in range(4):
        resting.clock.time += 5.0
        await resting.loop.round()
    assert resting.cluster.calls == [("start", name), ("drain", name)]
    assert looked_at[-1] == set()
    assert told(resting)[CHAT].replicas == ()


async def test_a_start_changes_what_is_told_of_functions_of_the_same_model(
    resting: Stage, looked_at: list[set[FunctionId]]
) -> None:
    before = told(resting)
    resting.traffic.work[CHAT] = Demand(1, 0, 1, resting.clock.now())
    await resting.loop.round()
    resting.cluster.say(resting.cluster.only(), ReplicaState.READY)
    await resting.loop.round()
    await resting.loop.round()
    assert any({CHAT, *OTHERS[:2]} == seen for seen in looked_at)
    assert told(resting)[OTHERS[0]].start_eta_seconds != before[OTHERS[0]].start_eta_seconds
    assert told(resting)[OTHERS[2]] is before[OTHERS[2]]


async def test_a_change_of_a_function_wakes_it_alone(
    resting: Stage, looked_at: list[set[FunctionId]], template: Template
) -> None:
    resting.functions.apply([Change(CHAT, {}, Policy(minimum=1), template)], resting.clock.now())
    resting.loop.changed()
    await resting.loop.round()
    assert looked_at == [{CHAT}]
    assert resting.cluster.calls == [("start", resting.cluster.only())]


async def test_a_deleted_function_has_no_route(resting: Stage) -> None:
    resting.functions.delete(CHAT, resting.clock.now())
    resting.loop.changed()
    await resting.loop.round()
    assert told(resting).keys() == set(OTHERS)


async def test_a_function_whose_demand_is_not_known_does_not_rest(
    resting: Stage, looked_at: list[set[FunctionId]]
) -> None:
    for _ in range(2):
        resting.traffic.work.pop(CHAT)
        await resting.loop.round()
    assert looked_at == [{CHAT}, {CHAT}]
