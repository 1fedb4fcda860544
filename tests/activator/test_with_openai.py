"""OpenAI's own client as the caller: its strict reading of streams, its classes of errors, its retries switched off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from pilotlight.activator.values import FunctionId

if TYPE_CHECKING:
    from tests.activator.conftest import MakeRoute, ScriptedEngine, Stage, StartSimulated, WaitFor

HELLO: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "hello"}]
EMBEDDER = FunctionId("team-a", "embedder")


@pytest.fixture
async def client(stage: Stage) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{stage.url}/v1", api_key="pl-alice", max_retries=0) as opened:
        yield opened


async def test_a_held_stream_is_read_through_all_its_comments(
    stage: Stage, client: openai.AsyncOpenAI, simulated: StartSimulated
) -> None:
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(
            client.chat.completions.create(
                model="chat",
                messages=HELLO,
                stream=True,
                max_tokens=5,
                stream_options={"include_usage": True},
                extra_body={"ignore_eos": True},
            )
        )
        await stage.held(1)
        for _ in range(3):
            stage.clock.advance(5.0)
        stream = await asked  # its 200 came with the first comment
        stage.clock.advance(5.0)
        stage.update(replicas=(simulated(simulated_time_scale=0.05).replica(),))
    chunks = [chunk async for chunk in stream]
    assert stream.response.headers["X-Pilotlight-Start"] == "cold"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == [5]
    assert (await stage.row()).completion_tokens == 5


async def test_whole_answers_and_embeddings_and_models_are_read(
    stage: Stage, client: openai.AsyncOpenAI, simulated: StartSimulated, make_route: MakeRoute
) -> None:
    replica = simulated(simulated_time_scale=0.05).replica()
    stage.apply(make_route(replicas=(replica,)), make_route(EMBEDDER, task="embed", replicas=(replica,)))
    chat = await client.chat.completions.create(model="chat", messages=HELLO, n=2, max_tokens=4)
    assert len(chat.choices) == 2
    text = await client.completions.create(model="chat", prompt=["a", "b"], max_tokens=3)
    assert len(text.choices) == 2
    vectors = await client.embeddings.create(model="embedder", input=["a", "b"])
    assert len(vectors.data) == 2
    assert [model.id async for model in client.models.list()] == ["chat", "embedder"]
    assert (await client.models.retrieve("chat")).owned_by == "team-a"
    counts = [(row.prompt_tokens, row.completion_tokens) for row in stage.meter.rows]
    assert counts == [
        (answer.usage.prompt_tokens, getattr(answer.usage, "completion_tokens", 0))
        for answer in (chat, text, vectors)
        if answer.usage is not None
    ]


async def test_refusals_are_the_clients_own_errors(stage: Stage, client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="pl-wrong").models.list()
    with pytest.raises(openai.NotFoundError, match="Did you mean `chat`"):
        await client.chat.completions.create(model="chatt", messages=HELLO)
    with pytest.raises(openai.BadRequestError) as long:
        await client.chat.completions.create(model="chat", messages=HELLO, max_tokens=1001)
    assert (long.value.code, long.value.param) == ("context_length_exceeded", "max_tokens")
    stage.update(queue_limit=0)
    with pytest.raises(openai.RateLimitError) as full:
        await client.chat.completions.create(model="chat", messages=HELLO, stream=True)
    assert (full.value.code, full.value.type) == ("queue_full", "rate_limit_error")
    assert int(full.value.response.headers["Retry-After"]) >= 1
    stage.update(queue_limit=10, failure="out of memory", retry_after_seconds=30.0)
    with pytest.raises(openai.InternalServerError, match="out of memory") as failing:
        await client.chat.completions.create(model="chat", messages=HELLO)
    assert (failing.value.status_code, failing.value.response.headers["Retry-After"]) == (503, "30")


async def test_a_refusal_of_a_held_stream_is_an_error_of_the_client(stage: Stage, client: openai.AsyncOpenAI) -> None:
    async with asyncio.TaskGroup() as group:
        create = client.chat.completions.create
        asked = group.create_task(create(model="chat", messages=HELLO, stream=True))
        await stage.held(1)
        stage.clock.advance(1.0)
        stream = await asked
        stage.update(failure="out of memory", retry_after_seconds=30.0)
    with pytest.raises(openai.APIError, match="out of memory") as refused:
        _ = [chunk async for chunk in stream]
    assert refused.value.code == "function_failing"
    assert isinstance(refused.value.body, dict)
    assert (refused.value.body["status"], refused.value.body["retry_after"]) == (503, 30)


async def test_a_client_that_closes_its_stream_is_gone(
    stage: Stage, client: openai.AsyncOpenAI, engine: ScriptedEngine, wait_for: WaitFor
) -> None:
    stage.update(replicas=(engine.replica(),))
    async with asyncio.TaskGroup() as group:
        create = client.completions.create
        asked = group.create_task(create(model="chat", prompt="hello", stream=True))
        call = await engine.call()
        await call.start()
        await call.tokens("one", [1], total=1)
        stream = await asked
        await anext(aiter(stream))
        await stream.close()
        await call.gone()
    await wait_for(lambda: bool(stage.meter.rows), "the row")
    assert [(row.outcome, row.completion_tokens) for row in stage.meter.rows] == [("cancelled", 1)]
