"""In-flight caps in the loop: learned from what replicas count, told, recorded, and left alone in trouble."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from pilotlight.activator.values import FunctionId
from pilotlight.platform.database.functions import Change
from pilotlight.platform.values import Policy, Template
from pilotlight.runtime.spec import EngineCounters, ReplicaState

if TYPE_CHECKING:
    from tests.platform.control.conftest import Stage

CHAT = FunctionId("team-a", "chat")
LIMIT = 32
PROMISED = 0.06
START = EngineCounters(1000.0, 0, 0, 0, 0, 0.0, 0, 0.0)


@dataclass
class Engine:
    """A replica under all the load that its cap allows; `slower` is changed mid-run."""

    stage: Stage
    name: str
    slower: float = 1.0
    counters: EngineCounters = START

    @property
    def slots(self) -> int:
        return next(each.slots for each in self.stage.traffic.routes[CHAT].replicas if each.id == self.name)

    def itl(self) -> float:
        return self.slower * (0.02 + 0.001 * self.slots)

    async def serve(self, seconds: float) -> float:
        """Returns for how long the promise was broken."""
        broken = 0.0
        for _ in range(int(seconds / 5)):
            broken += 5 * (self.itl() > PROMISED)
            self.counters = self._after_five_seconds()
            self.stage.cluster.say(self.name, ReplicaState.READY, counters=self.counters)
            self.stage.demand(in_flight=self.slots)
            self.stage.clock.time += 5
            await self.stage.loop.round()
        return broken

    def _after_five_seconds(self) -> EngineCounters:
        gaps, before = int(5 * self.slots / self.itl()), self.counters
        return EngineCounters(
            at=before.at + 5,
            looks=before.looks + 5,
            in_flight=before.in_flight + 5 * self.slots,
            prompts=(before.prompts or 0) + 5,
            prompt_tokens=(before.prompt_tokens or 0) + 500,
            first_token_seconds=(before.first_token_seconds or 0) + 5 * 0.1 * self.slower,
            gaps=(before.gaps or 0) + gaps,
            gap_seconds=(before.gap_seconds or 0) + gaps * self.itl(),
        )


@pytest.fixture
async def engine(stage: Stage, template: Template) -> Engine:
    name = await stage.ready(replace(template, slots=LIMIT), itl_seconds=PROMISED, maximum=4)
    return Engine(stage, name)


async def test_a_throttled_replica_gets_less_at_once_within_thirty_seconds(engine: Engine) -> None:
    await engine.serve(60)
    before = engine.slots
    engine.slower = 1.8

    assert await engine.serve(30) <= 30
    assert engine.itl() <= PROMISED
    assert await engine.serve(120) == 0
    assert before == LIMIT
    assert 8 <= engine.slots <= 10


async def test_every_change_is_recorded_with_what_it_rests_on(engine: Engine) -> None:
    await engine.serve(60)
    engine.slower = 1.8
    await engine.serve(30)
    records = engine.stage.stores.records.decisions(CHAT)
    cut, *_ = [record for record in reversed(records) if record.reason == "slo_broken"]

    assert cut.sentence.startswith("ITL was 94 ms at 32.0 in flight, 60 ms are promised; cap 32 -> ")
    assert cut.desired == 1
    assert (cut.inputs["cap"], cut.inputs["most"], cut.inputs["in_flight"]) == (LIMIT, LIMIT, 32.0)
    assert cut.inputs["itl_seconds"] == pytest.approx(1.8 * 0.052)
    assert cut.inputs["itl_bound_seconds"] == PROMISED
    assert cut.inputs["decided"] == LIMIT / 2


async def test_replicas_are_counted_by_the_cap(engine: Engine) -> None:
    await engine.serve(60)
    alone = engine.stage.loop.known.memory[CHAT].state.desired
    engine.slower = 1.8
    await engine.serve(30)

    assert alone == 1
    assert engine.stage.loop.known.memory[CHAT].state.desired > 1


async def test_the_cap_stays_for_a_while_after_a_replica_has_failed(engine: Engine) -> None:
    await engine.serve(60)
    stage = engine.stage
    stage.demand(in_flight=LIMIT, queued=1)
    await stage.loop.round()
    second = next(name for name in stage.cluster.says if name != engine.name)
    stage.cluster.say(second, ReplicaState.FAILED, message="killed")
    engine.slower = 1.8
    await engine.serve(50)
    during = engine.slots
    await engine.serve(30)

    assert during == LIMIT
    assert engine.slots < LIMIT


async def test_a_function_that_promises_nothing_keeps_its_limit(stage: Stage, template: Template) -> None:
    engine = Engine(stage, await stage.ready(replace(template, slots=LIMIT)), slower=9.0)
    await engine.serve(60)

    assert engine.slots == LIMIT
    assert "slo_broken" not in stage.reasons()


async def test_revisions_that_differ_in_limits_alone_share_what_is_learned(engine: Engine, template: Template) -> None:
    await engine.serve(60)
    follower = engine.stage.loop.follower
    engine.stage.deploy(replace(template, slots=16, options={"max_num_seqs": 16}), itl_seconds=PROMISED)
    await engine.stage.loop.round()
    name = next(name for name in engine.stage.cluster.says if name != engine.name)
    engine.stage.cluster.say(name, ReplicaState.READY)
    await engine.stage.loop.round()
    newer = Engine(engine.stage, name)
    await newer.serve(10)

    assert len(follower.performances) == 1
    assert newer.slots == 16
    assert [at.name for at in follower.followed] == ["chat-00002"]
    assert {at.name for at in engine.stage.loop.known.caps} == {"chat-00002"}


@pytest.mark.parametrize(
    "counters",
    [
        replace(START, at=1005.0, looks=10**400),
        replace(START, at=1005.0, looks=5, in_flight=5, prompts=1, prompt_tokens=1, first_token_seconds=1.7e308),
    ],
    ids=["no float is as large", "no mean of two is finite"],
)
async def test_what_replicas_count_cannot_stop_the_loop_for_others(
    stage: Stage, template: Template, counters: EngineCounters
) -> None:
    def say(counters: EngineCounters) -> None:
        for name in stage.cluster.says:
            stage.cluster.say(name, ReplicaState.READY, counters=counters)

    stage.deploy(replace(template, slots=LIMIT), minimum=2, maximum=2, itl_seconds=PROMISED)
    await stage.loop.round()
    say(START)
    await stage.loop.round()
    other = FunctionId("team-a", "other")
    stage.functions.apply([Change(other, {}, Policy(), template)], stage.clock.now())
    stage.loop.changed()
    say(counters)
    await stage.loop.round()

    assert len(stage.cluster.says) == 2
    assert other in stage.traffic.routes
    assert {replica.slots for replica in stage.traffic.routes[CHAT].replicas} == {LIMIT}
