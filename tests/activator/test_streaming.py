"""Running requests: what passes to the client, what is metered, and how they end before their time."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

from pilotlight.activator.values import FunctionId, Usage

if TYPE_CHECKING:
    from tests.activator.conftest import ReadEvent, ReadRest, ScriptedEngine, Stage, WaitFor

CHAT = FunctionId("team-a", "chat")


def _chunks(events: list[str]) -> list[dict[str, object]]:
    return [json.loads(event.removeprefix("data: ")) for event in events if event.startswith("data: {")]


async def test_the_engine_is_asked_for_ids_and_usage_under_its_own_name_and_key(
    stage: Stage, engine: ScriptedEngine
) -> None:
    stage.update(replicas=(engine.replica(),))
    async with asyncio.TaskGroup() as group:
        extra = {"priority": -5, "kv_transfer_params": {"do_remote_decode": True}, "request_id": "mine", "top_k": 3}
        post = group.create_task(stage.status(stream=True, headers={"X-Vllm-Priority": "-9"}, **extra))
        call = await engine.call()
        await call.start()
        await call.done(total=0)
        assert await post == 200
    assert call.path == "/v1/completions"
    assert call.headers["authorization"] == "Bearer engine-secret"
    assert "x-vllm-priority" not in call.headers
    assert call.body == {
        "model": "served-chat",
        "prompt": "hello",
        "stream": True,
        "top_k": 3,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "return_token_ids": True,
    }


async def test_what_the_client_did_not_ask_for_is_removed(
    stage: Stage, engine: ScriptedEngine, read_rest: ReadRest
) -> None:
    stage.update(replicas=(engine.replica(),))
    async with asyncio.TaskGroup() as group:
        opened = group.create_task(stage.open(stream=True))
        call = await engine.call()
        await call.start()
        await call.tokens("one", [1, 2], total=2)
        await call.tokens(" two", [3], total=3)
        await call.done(total=3)
    events = await read_rest(opened.result())
    chunks = _chunks(events)
    assert [chunk["choices"][0]["text"] for chunk in chunks] == ["one", " two"]  # type: ignore[index] # JSON
    assert all("usage" not in chunk and "token_ids" not in json.dumps(chunk) for chunk in chunks)
    assert events[-1] == "data: [DONE]"
    row = await stage.row()
    assert (row.prompt_tokens, row.completion_tokens, row.outcome) == (7, 3, "ok")


async def test_what_the_client_asked_for_stays(stage: Stage, engine: ScriptedEngine, read_rest: ReadRest) -> None:
    stage.update(replicas=(engine.replica(),))
    async with asyncio.TaskGroup() as group:
        asked = {"stream_options": {"include_usage": True}, "return_token_ids": True}
        opened = group.create_task(stage.open(stream=True, **asked))
        call = await engine.call()
        await call.start()
        await call.tokens("one", [1], total=1)
        await call.done(total=1)
    first, last = _chunks(await read_rest(opened.result()))
    assert first["choices"][0]["token_ids"] == [1]  # type: ignore[index] # JSON
    assert "usage" not in first
    assert last["usage"]["completion_tokens"] == 1  # type: ignore[index] # JSON


async def test_a_client_that_leaves_mid_stream_aborts_the_engine_and_is_metered(
    stage: Stage, engine: ScriptedEngine, read_event: ReadEvent
) -> None:
    stage.update(replicas=(engine.replica(),))
    async with asyncio.TaskGroup() as group:
        opened = group.create_task(stage.open(stream=True))
        call = await engine.call()
        await call.start()
        await call.tokens("one", [1, 2, 3], total=3)
    response = opened.result()
    await read_event(response)
    response.close()
    await call.gone()
    row = await stage.row()
    assert (row.outcome, row.completion_tokens, row.prompt_tokens) == ("cancelled", 3, 7)
    assert stage.demand() == (0, 0)
    assert stage.waker.losses == []


async def test_a_client_that_leaves_before_the_first_token_aborts_the_engine(
    stage: Stage, engine: ScriptedEngine
) -> None:
    stage.update(replicas=(engine.replica(),))
    async with asyncio.TaskGroup() as group:
        post = group.create_task(stage.status(stream=True))
        call = await engine.call()
        post.cancel()
        await call.gone()
    assert (await stage.row()).outcome == "cancelled"
    assert stage.demand() == (0, 0)


async def test_a_client_that_leaves_without_streaming_aborts_the_engine(stage: Stage, engine: ScriptedEngine) -> None:
    stage.update(replicas=(engine.replica(),))
    async with asyncio.TaskGroup() as group:
        post = group.create_task(stage.status())
        call = await engine.call()
        post.cancel()
        await call.gone()
    assert (await stage.row()).outcome == "cancelled"


async def test_running_streams_are_checkpointed_each_second(
    stage: Stage, engine: ScriptedEngine, read_event: ReadEvent, wait_for: WaitFor
) -> None:
    stage.update(replicas=(engine.replica(),))
    async with asyncio.TaskGroup() as group:
        opened = group.create_task(stage.open(stream=True))
        call = await engine.call()
        await call.start()
        await call.tokens("one", [1, 2], total=2)
    response = opened.result()
    await read_event(response)
    before = len(stage.meter.checkpoints)
    stage.clock.advance(1.0)
    await wait_for(lambda: len(stage.meter.checkpoints) > before, "a checkpoint")
    usage = stage.meter.checkpoints[-1]
    assert (usage.outcome, usage.completion_tokens, usage.replica) == ("running", 2, "r1")
    await call.done(total=2)
    await response.read()


async def test_a_replica_that_dies_before_its_first_byte_is_replaced_by_another(
    stage: Stage, engine: ScriptedEngine, second_engine: ScriptedEngine
) -> None:
    stage.update(replicas=(engine.replica("r1", weight=2.0), second_engine.replica("r2")))
    async with asyncio.TaskGroup() as group:
        post = group.create_task(stage.open(stream=True))
        (await engine.call()).die()
        call = await second_engine.call()
        await call.start()
        await call.tokens("one", [1], total=1)
        await call.done(total=1)
    response = post.result()
    assert response.headers["X-Pilotlight-Replica"] == "r2"
    await response.read()
    row = await stage.row()
    assert (row.outcome, row.replica, row.completion_tokens) == ("ok", "r2", 1)
    assert [(function, replica) for function, replica, _ in stage.waker.losses] == [(CHAT, "r1")]
    assert engine.pending == 0


async def test_headers_without_a_byte_of_the_answer_do_not_end_the_retries(
    stage: Stage, engine: ScriptedEngine, second_engine: ScriptedEngine
) -> None:
    stage.update(replicas=(engine.replica("r1", weight=2.0), second_engine.replica("r2")))
    async with asyncio.TaskGroup() as group:
        post = group.create_task(stage.status(stream=True))
        call = await engine.call()
        await call.start()
        call.die()
        call = await second_engine.call()
        await call.start()
        await call.done(total=0)
        assert await post == 200


async def test_a_token_that_the_client_was_not_shown_ends_the_retries(
    stage: Stage, engine: ScriptedEngine, second_engine: ScriptedEngine, wait_for: WaitFor
) -> None:
    """An engine sends chunks that carry only ids; made and counted once, the request may not be made again."""
    stage.update(replicas=(engine.replica("r1", weight=2.0), second_engine.replica("r2")))
    async with asyncio.TaskGroup() as group:
        post = group.create_task(stage.error(stream=True))
        call = await engine.call()
        await call.start()
        await call.event({"choices": [{"index": 0, "delta": {}, "finish_reason": None, "token_ids": [5]}]})
        await wait_for(lambda: any(usage.completion_tokens for usage in _checked(stage)), "the token to be counted")
        call.die()
        status, _ = await post
    assert status == 502
    assert second_engine.pending == 0
    assert (await stage.row()).completion_tokens == 1


def _checked(stage: Stage) -> list[Usage]:
    stage.clock.advance(1.0)
    return stage.meter.checkpoints


async def test_with_no_other_replica_the_request_is_held_again(
    stage: Stage, engine: ScriptedEngine, second_engine: ScriptedEngine
) -> None:
    stage.update(replicas=(engine.replica("r1"),))
    async with asyncio.TaskGroup() as group:
        post = group.create_task(stage.status())
        (await engine.call()).die()
        await stage.held(1)
        assert stage.waker.woken == [CHAT]
        stage.update(replicas=(second_engine.replica("r2"),))
        await (await second_engine.call()).answer({"usage": {}})
        assert await post == 200


async def test_a_replica_that_cannot_be_reached_is_tried_again_later(stage: Stage, engine: ScriptedEngine) -> None:
    port = engine.port
    stage.update(replicas=(engine.replica("r1"),))
    await engine.stop()
    async with asyncio.TaskGroup() as group:
        post = group.create_task(stage.status())
        await stage.held(1)
        await engine.start(port)
        stage.clock.advance(1.0)
        await (await engine.call()).answer({"usage": {}})
        assert await post == 200


async def test_a_request_that_kills_engines_ends(stage: Stage, engine: ScriptedEngine) -> None:
    stage.update(replicas=tuple(engine.replica(f"r{index}") for index in range(4)))
    async with asyncio.TaskGroup() as group:
        post = group.create_task(stage.error())
        for _ in range(3):
            (await engine.call()).die()
        status, error = await post
    assert (status, error["code"]) == (502, "replica_lost")
    assert engine.pending == 0
    assert (await stage.row()).outcome == "failed"


async def test_after_the_first_byte_the_stream_ends_with_an_error_event(
    stage: Stage, engine: ScriptedEngine, second_engine: ScriptedEngine, read_rest: ReadRest
) -> None:
    stage.update(replicas=(engine.replica("r1", weight=2.0), second_engine.replica("r2")))
    async with asyncio.TaskGroup() as group:
        opened = group.create_task(stage.open(stream=True))
        call = await engine.call()
        await call.start()
        await call.tokens("one", [1, 2], total=2)
    response = opened.result()
    call.die()
    events = await read_rest(response)
    error = _chunks(events)[-1]["error"]
    assert error["status"] == 502  # type: ignore[index] # JSON
    assert "data: [DONE]" not in events
    row = await stage.row()
    assert (row.outcome, row.status, row.completion_tokens) == ("failed", 502, 2)
    assert second_engine.pending == 0
    assert stage.waker.losses


async def test_a_connection_that_breaks_behind_done_costs_nothing(
    stage: Stage, engine: ScriptedEngine, read_rest: ReadRest, read_event: ReadEvent
) -> None:
    stage.update(replicas=(engine.replica(),))
    async with asyncio.TaskGroup() as group:
        opened = group.create_task(stage.open(stream=True))
        call = await engine.call()
        await call.start()
        await call.tokens("one", [1], total=1)
        await call.send(b"data: [DONE]\n\n")
    response = opened.result()
    events = [await read_event(response), await read_event(response)]
    call.die()
    events += await read_rest(response)
    assert events[-1] == "data: [DONE]"
    row = await stage.row()
    assert (row.outcome, row.completion_tokens) == ("ok", 1)
    assert stage.waker.losses == []


async def test_a_stream_that_ends_without_done_is_an_error(
    stage: Stage, engine: ScriptedEngine, read_rest: ReadRest
) -> None:
    stage.update(replicas=(engine.replica(),))
    async with asyncio.TaskGroup() as group:
        opened = group.create_task(stage.open(stream=True))
        call = await engine.call()
        await call.start()
        await call.tokens("one", [1], total=1)
        await call.finish()
    assert "error" in _chunks(await read_rest(opened.result()))[-1]


async def test_without_streaming_a_death_after_the_first_byte_is_a_true_502(
    stage: Stage, engine: ScriptedEngine, second_engine: ScriptedEngine
) -> None:
    stage.update(replicas=(engine.replica("r1", weight=2.0), second_engine.replica("r2")))
    async with asyncio.TaskGroup() as group:
        post = group.create_task(stage.error())
        call = await engine.call()
        await call.start(kind="application/json")
        await call.send(b'{"choices":')
        call.die()
        status, error = await post
    assert (status, error["code"]) == (502, "replica_lost")
    assert second_engine.pending == 0


async def test_an_engine_that_reports_its_death_counts_as_lost(
    stage: Stage, engine: ScriptedEngine, second_engine: ScriptedEngine
) -> None:
    stage.update(replicas=(engine.replica("r1", weight=2.0), second_engine.replica("r2")))
    dead = {"error": {"message": "EngineCore encountered an issue", "type": "InternalServerError", "code": 500}}
    async with asyncio.TaskGroup() as group:
        post = group.create_task(stage.status(stream=True))
        await (await engine.call()).answer(dead, 500)
        call = await second_engine.call()
        await call.start()
        await call.done(total=0)
        assert await post == 200


async def test_an_engine_refusal_keeps_its_status_and_words(stage: Stage, engine: ScriptedEngine) -> None:
    stage.update(replicas=(engine.replica(),))
    refusal = {"error": {"message": "grammar is not valid", "type": "BadRequestError", "param": "structured_outputs"}}
    async with asyncio.TaskGroup() as group:
        post = group.create_task(stage.error(stream=True))
        await (await engine.call()).answer(refusal, 400)
        status, error = await post
    assert (status, error["message"], error["param"]) == (400, "grammar is not valid", "structured_outputs")
    assert (await stage.row()).outcome == "rejected"


async def test_an_engine_error_as_first_event_is_a_true_status(stage: Stage, engine: ScriptedEngine) -> None:
    stage.update(replicas=(engine.replica(),))
    async with asyncio.TaskGroup() as group:
        post = group.create_task(stage.error(stream=True))
        call = await engine.call()
        await call.start()
        await call.event({"error": {"message": "bad sampling", "type": "BadRequestError", "code": 400}})
        await call.finish()
        status, error = await post
    assert (status, error["message"]) == (400, "bad sampling")


async def test_words_of_the_client_in_a_refusal_do_not_make_a_replica_look_dead(
    stage: Stage, engine: ScriptedEngine
) -> None:
    stage.update(replicas=(engine.replica(),))
    async with asyncio.TaskGroup() as group:
        post = group.create_task(stage.error(stream=True))
        call = await engine.call()
        await call.start()
        await call.event({"error": {"message": "no tool 'EngineDeadError'", "type": "BadRequestError", "code": 400}})
        status, _ = await post
    assert status == 400
    assert stage.waker.losses == []


async def test_a_long_refusal_does_not_make_a_replica_look_dead(stage: Stage, engine: ScriptedEngine) -> None:
    """Engines quote what they refuse, and a client may have sent megabytes of it."""
    stage.update(replicas=(engine.replica(),))
    async with asyncio.TaskGroup() as group:
        post = group.create_task(stage.error())
        call = await engine.call()
        with contextlib.suppress(ConnectionError):
            await call.answer({"error": {"message": "x" * 3_000_000}}, 400)
        status, error = await post
    assert (status, error["code"]) == (400, "engine_rejected")
    assert stage.waker.losses == []


async def test_a_wrong_engine_key_is_not_the_clients_fault(
    stage: Stage, engine: ScriptedEngine, second_engine: ScriptedEngine
) -> None:
    stage.update(replicas=(engine.replica("r1", weight=2.0), second_engine.replica("r2")))
    async with asyncio.TaskGroup() as group:
        post = group.create_task(stage.status())
        await (await engine.call()).answer({"error": "Unauthorized"}, 401)
        await (await second_engine.call()).answer({"usage": {}})
        assert await post == 200
    assert stage.waker.losses[0][1] == "r1"


async def test_the_cap_of_a_replica_holds_and_the_least_load_wins(
    stage: Stage, engine: ScriptedEngine, second_engine: ScriptedEngine, wait_for: WaitFor
) -> None:
    stage.update(replicas=(engine.replica("r1", slots=2), second_engine.replica("r2", slots=1)))
    async with asyncio.TaskGroup() as group:
        posts = [group.create_task(stage.status()) for _ in range(4)]
        await stage.held(1)
        assert dict(stage.activator.demand()[CHAT].per_replica) == {"r1": 2, "r2": 1}
        for source in (engine, second_engine, engine):
            await (await source.call()).answer({"usage": {}})
        await wait_for(lambda: engine.pending + second_engine.pending > 0, "the last call")
        await (await (engine if engine.pending else second_engine).call()).answer({"usage": {}})
        assert [await post for post in posts] == [200] * 4


async def test_a_draining_replica_gets_nothing_new_and_finishes_its_stream(
    stage: Stage, engine: ScriptedEngine, second_engine: ScriptedEngine, read_rest: ReadRest, wait_for: WaitFor
) -> None:
    stage.update(replicas=(engine.replica("r1"),))
    async with asyncio.TaskGroup() as group:
        opened = group.create_task(stage.open(stream=True))
        first = await engine.call()
        await first.start()
        await first.tokens("one", [1], total=1)
        response = await opened
        stage.update(replicas=(engine.replica("r1", accepting=False), second_engine.replica("r2")))
        post = group.create_task(stage.status())
        await (await second_engine.call()).answer({"usage": {}})
        assert await post == 200
        stage.update(replicas=(second_engine.replica("r2"),))
        assert dict(stage.activator.demand()[CHAT].per_replica) == {"r1": 1, "r2": 0}
        await first.done(total=1)
    assert (await read_rest(response))[-1] == "data: [DONE]"
    await wait_for(lambda: stage.demand()[1] == 0, "free lanes")
    assert dict(stage.activator.demand()[CHAT].per_replica) == {"r2": 0}
