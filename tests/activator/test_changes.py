"""What has changed since the host last asked: added up, it is the whole demand."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pilotlight.activator.values import Demand, FunctionId, Route

if TYPE_CHECKING:
    from tests.activator.conftest import MakeRoute, ReadRest, ScriptedEngine, Stage

CHAT = FunctionId("team-a", "chat")


class Follower:
    """Keeps a copy of the demand by the changes alone."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.copy: dict[FunctionId, Demand | None] = {}

    def check(self) -> Demand | None:
        self.copy.update(self._stage.activator.changes())
        known = {function: demand for function, demand in self.copy.items() if demand is not None}
        assert busy(known) == busy(dict(self._stage.activator.demand()))
        assert self._stage.activator.changes() == {}
        waiting = {function: demand for function, demand in self._stage.activator.demand().items() if demand.queued}
        assert self._stage.activator.waiting() == waiting
        return self.copy.get(CHAT)


def busy(demands: dict[FunctionId, Demand]) -> dict[FunctionId, Demand]:
    """Without the replicas that do nothing, which are no work."""
    return {
        function: replace(demand, per_replica=tuple((name, count) for name, count in demand.per_replica if count))
        for function, demand in demands.items()
    }


async def test_changes_add_up_to_the_demand(stage: Stage, engine: ScriptedEngine, read_rest: ReadRest) -> None:
    follower = Follower(stage)
    follower.check()
    async with asyncio.TaskGroup() as group:
        opened = group.create_task(stage.open(stream=True))
        await stage.held(1)
        held = follower.check()
        assert held is not None
        assert held.queued == 1
        stage.update(replicas=(engine.replica(),))
        served = follower.check()
        assert served is not None
        assert (served.queued, served.in_flight) == (0, 1)
        call = await engine.call()
        await call.start()
        await call.tokens("one", [1], total=1)
        await call.done(total=1)
    await read_rest(opened.result())
    await stage.row()
    ended = follower.check()
    assert ended is not None
    assert ended.in_flight == 0


async def test_a_hold_that_is_refused_and_a_function_that_is_gone_are_changes(stage: Stage) -> None:
    follower = Follower(stage)
    async with asyncio.TaskGroup() as group:
        refused = group.create_task(stage.error())
        await stage.held(1)
        follower.check()
        stage.activator.apply({})
        assert follower.check() is None
        await refused
    follower.check()
    assert CHAT in follower.copy


def steps(call: Callable[[], None]) -> int:
    """Lines of Python that a call runs, those of every turn of a loop counted."""
    count = 0

    def tracer(_frame: object, event: str, _argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return tracer

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


async def test_a_change_of_one_function_takes_no_more_work_with_many(stage: Stage, make_route: MakeRoute) -> None:
    def work_of_a_change(others: int) -> list[int]:
        stage.apply(make_route(), *(make_route(FunctionId("team-b", f"f{number}")) for number in range(others)))
        one, more = make_route(queue_limit=others + 1), make_route(FunctionId("team-a", "new"))
        changes: list[dict[FunctionId, Route | None]] = [{CHAT: one}, {more.function: more}, {more.function: None}]
        work = [steps(partial(stage.activator.change, change)) for change in changes]
        assert stage.activator.changes()[more.function] is None
        return work

    few, many = work_of_a_change(10), work_of_a_change(1000)
    assert min(few) > 5
    assert many == few
