"""Against the simulated engine, in its own process: bursts, kills, and counts that agree with the engine's own."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING

from pilotlight.activator.values import FunctionId

if TYPE_CHECKING:
    from tests.activator.conftest import ReadEvent, ReadRest, Stage, StartSimulated, WaitFor

CHAT = FunctionId("team-a", "chat")
HELLO = [{"role": "user", "content": "hello"}]
CHAT_PATH = "/v1/chat/completions"


async def test_a_burst_at_zero_is_answered_by_one_start_within_the_cap(
    stage: Stage, simulated: StartSimulated, read_rest: ReadRest
) -> None:
    async with asyncio.TaskGroup() as group:
        body = {"model": "chat", "messages": HELLO, "stream": True, "max_tokens": 5, "ignore_eos": True}
        posts = [group.create_task(stage.open(CHAT_PATH, json=body)) for _ in range(50)]
        await stage.held(50)
        stage.update(replicas=(simulated(simulated_time_scale=0.05).replica(slots=4),))
    assert stage.waker.woken == [CHAT]
    for post in posts:
        events = await read_rest(post.result())
        assert events[-1] == "data: [DONE]"
        assert "usage" not in "".join(events)
        assert "token_ids" not in "".join(events)
    assert {(row.outcome, row.completion_tokens, row.cold) for row in stage.meter.rows} == {("ok", 5, True)}
    assert len(stage.meter.rows) == 50


async def test_tokens_metered_are_the_tokens_the_engine_made(stage: Stage, simulated: StartSimulated) -> None:
    engine = simulated(simulated_time_scale=0.05)
    stage.update(replicas=(engine.replica(slots=8),))
    for number, stream in enumerate([True, False, True, False]):
        body = {"model": "chat", "messages": HELLO, "stream": stream, "seed": number, "n": 1 + number % 2}
        assert await stage.status(CHAT_PATH, json={**body, "max_tokens": 9}) == 200
    headers = {"Authorization": "Bearer engine-secret"}
    async with stage.client.get(engine.url + "/metrics", headers=headers) as response:
        lines = (await response.text()).splitlines()
    made = {name: _sum(lines, f"vllm:{name}_tokens_total") for name in ("prompt", "generation")}
    assert sum(row.completion_tokens for row in stage.meter.rows) == made["generation"]
    assert sum(row.prompt_tokens for row in stage.meter.rows) <= made["prompt"]


async def test_kill_9_mid_stream_ends_with_an_error_and_what_passed_is_metered(
    stage: Stage, simulated: StartSimulated, read_event: ReadEvent, read_rest: ReadRest
) -> None:
    engine = simulated(simulated_decode_base_seconds=0.05)
    stage.update(replicas=(engine.replica(),))
    body = {"model": "chat", "messages": HELLO, "stream": True, "max_tokens": 500, "ignore_eos": True}
    response = await stage.open(CHAT_PATH, json=body)
    for _ in range(4):
        await read_event(response)
    engine.kill()
    events = await read_rest(response)
    assert json.loads(events[-1].removeprefix("data: "))["error"]["code"] == "replica_lost"
    row = await stage.row()
    assert row.outcome == "failed"
    assert 0 < row.completion_tokens < 500
    assert stage.waker.losses[0][:2] == (CHAT, "r1")


async def test_kill_9_while_idle_costs_nobody_an_answer(stage: Stage, simulated: StartSimulated) -> None:
    first = simulated(simulated_time_scale=0.05)
    stage.update(replicas=(first.replica("r1"),))
    body = {"model": "chat", "messages": HELLO, "max_tokens": 3}
    assert await stage.status(CHAT_PATH, json=body) == 200
    first.kill()
    first.process.wait()
    async with asyncio.TaskGroup() as group:
        post = group.create_task(stage.status(CHAT_PATH, json=body))
        await stage.held(1)
        stage.update(replicas=(simulated(simulated_time_scale=0.05).replica("r2"),))
        assert await post == 200
    assert [row.outcome for row in stage.meter.rows] == ["ok", "ok"]


async def test_a_client_that_leaves_frees_the_engine(
    stage: Stage, simulated: StartSimulated, read_event: ReadEvent
) -> None:
    engine = simulated(simulated_decode_base_seconds=0.05)
    stage.update(replicas=(engine.replica(),))
    body = {"model": "chat", "messages": HELLO, "stream": True, "max_tokens": 900, "ignore_eos": True}
    response = await stage.open(CHAT_PATH, json=body)
    await read_event(response)
    response.close()
    row = await stage.row()
    assert row.outcome == "cancelled"
    headers = {"Authorization": "Bearer engine-secret"}
    async with asyncio.timeout(30):
        while True:
            async with stage.client.get(engine.url + "/metrics", headers=headers) as answer:
                lines = (await answer.text()).splitlines()
            if _sum(lines, "vllm:num_requests_running") == 0:
                break


async def test_an_engine_error_leaves_one_row(stage: Stage, simulated: StartSimulated) -> None:
    stage.update(replicas=(simulated(simulated_time_scale=0.05, simulated_error_requests=1).replica(),))
    status, _ = await stage.error(CHAT_PATH, json={"model": "chat", "messages": HELLO, "stream": True})
    assert status == 500
    assert [(row.outcome, row.status) for row in stage.meter.rows] == [("failed", 500)]


async def test_a_connection_cut_before_the_first_byte_is_tried_again(stage: Stage, simulated: StartSimulated) -> None:
    stage.update(replicas=(simulated(simulated_time_scale=0.05, simulated_drop_requests=1).replica(),))
    async with asyncio.TaskGroup() as group:
        body = {"model": "chat", "messages": HELLO, "stream": True, "max_tokens": 3}
        post = group.create_task(stage.status(CHAT_PATH, json=body))
        await stage.held(1)
        stage.clock.advance(1.0)
        assert await post == 200
    assert [(row.outcome, row.completion_tokens, row.max_tokens) for row in stage.meter.rows] == [("ok", 3, 3)]


async def test_in_a_storm_every_admitted_request_leaves_one_row(
    stage: Stage, simulated: StartSimulated, wait_for: WaitFor
) -> None:
    """Clients leave while held and while streaming, one of two engines is killed, streams and whole answers mix."""
    victim, survivor = simulated(simulated_time_scale=0.3), simulated(simulated_time_scale=0.3)
    async with asyncio.TaskGroup() as group:
        posts = []
        for number in range(90):
            body = {"model": "chat", "messages": HELLO, "stream": number % 3 > 0, "max_tokens": 20, "seed": number}
            posts.append(group.create_task(stage.status(CHAT_PATH, json=body)))
        await stage.held(90)
        for post in posts[:20]:
            post.cancel()
        await stage.held(70)
        stage.update(replicas=(victim.replica("r1", slots=6), survivor.replica("r2", slots=6)))
        await wait_for(lambda: len(stage.meter.rows) >= 30, "the first answers")
        for post in posts[20::5]:
            post.cancel()
        victim.kill()
        await wait_for(lambda: bool(stage.waker.losses), "the loss to be noticed")
        stage.update(replicas=(survivor.replica("r2", slots=6),))
    assert stage.demand() == (0, 0)
    assert len(stage.meter.rows) == len(stage.meter.admissions) == 90
    outcomes = Counter(row.outcome for row in stage.meter.rows)
    assert outcomes.keys() <= {"ok", "cancelled", "failed"}
    assert 20 <= outcomes["cancelled"] <= 35
    assert outcomes["failed"] <= 6, "only what had begun on the killed engine"


def _sum(lines: list[str], name: str) -> float:
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name + "{"))
