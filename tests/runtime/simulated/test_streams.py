"""Streams over real HTTP: the events, their usage and ids, and clients that leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from pilotlight.runtime.simulated.tokens import decode

Serve = Callable[..., Awaitable[httpx.AsyncClient]]
Eventually = Callable[[Callable[[], Awaitable[bool]], str], Awaitable[None]]

_CHAT: dict[str, object] = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 6, "ignore_eos": True}
_TEXT: dict[str, object] = {"prompt": "Hello", "max_tokens": 6, "ignore_eos": True}


async def _events(client: httpx.AsyncClient, path: str, body: dict[str, object]) -> list[dict[str, Any]]:
    """The events of a stream, which must end with its mark."""
    response = await client.post(path, json={**body, "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in response.text.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


async def test_a_stream_says_what_the_whole_answer_says(serve: Serve) -> None:
    client = await serve()
    whole = (await client.post("/v1/chat/completions", json=_CHAT)).json()["choices"][0]
    first, *rest = await _events(client, "/v1/chat/completions", _CHAT)

    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(event["choices"][0]["delta"]["content"] for event in rest) == whole["message"]["content"]
    assert [event["choices"][0]["finish_reason"] for event in rest[-1:]] == [whole["finish_reason"]]
    assert not any("usage" in event for event in [first, *rest])


async def test_ids_come_with_the_text_that_they_stand_for(serve: Serve) -> None:
    client = await serve()
    first, *rest = await _events(client, "/v1/chat/completions", {**_CHAT, "return_token_ids": True})

    assert first["prompt_token_ids"][0] == 1
    for event in rest:
        assert decode(event["choices"][0]["token_ids"]) == event["choices"][0]["delta"]["content"]
    assert sum(len(event["choices"][0]["token_ids"]) for event in rest) == 6


async def test_a_completion_names_its_prompt_ids_in_the_first_event_only(serve: Serve) -> None:
    events = await _events(await serve(), "/v1/completions", {**_TEXT, "return_token_ids": True})
    prompts = [event["choices"][0]["prompt_token_ids"] for event in events]

    assert prompts[0]
    assert prompts[1:] == [None] * (len(events) - 1)


@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", _CHAT), ("/v1/completions", _TEXT)])
async def test_usage_is_told_at_the_end_where_asked_for(serve: Serve, path: str, body: dict[str, object]) -> None:
    *events, last = await _events(await serve(), path, {**body, "stream_options": {"include_usage": True}})

    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 6
    assert last["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
    assert not any("usage" in event for event in events)


async def test_continuous_usage_counts_up_to_the_sum(serve: Serve) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    *events, last = await _events(await serve(), "/v1/chat/completions", {**_CHAT, "stream_options": options})
    counts = [event["usage"]["completion_tokens"] for event in events]

    assert counts[0] == 0
    assert counts == sorted(counts)
    assert counts[-1] == last["usage"]["completion_tokens"] == 6


async def test_every_choice_of_a_stream_ends_once(serve: Serve) -> None:
    body = {**_CHAT, "n": 3, "return_token_ids": True}
    events = await _events(await serve(), "/v1/chat/completions", body)
    ends = [choice["index"] for event in events for choice in event["choices"] if choice["finish_reason"]]
    tokens = [token for event in events for choice in event["choices"] for token in choice.get("token_ids") or ()]

    assert sorted(ends) == [0, 1, 2]
    assert len(tokens) == 18


async def test_a_stop_string_never_shows_in_a_stream(serve: Serve) -> None:
    client = await serve()
    text = (await client.post("/v1/completions", json=_TEXT)).json()["choices"][0]["text"]
    stop = text[8:13]
    events = await _events(client, "/v1/completions", {**_TEXT, "stop": stop})

    assert "".join(event["choices"][0]["text"] for event in events) == text[:8]
    assert events[-1]["choices"][0]["stop_reason"] == stop


async def test_the_status_goes_out_before_the_first_token(serve: Serve) -> None:
    client = await serve(simulated_stall_requests=1)
    async with client.stream("POST", "/v1/chat/completions", json={**_CHAT, "stream": True}) as response:
        assert response.status_code == 200
        assert await _running(client) == 1


async def _running(client: httpx.AsyncClient) -> int:
    load: int = (await client.get("/load")).json()["server_load"]
    return load


async def test_a_client_that_leaves_mid_stream_frees_its_slot(serve: Serve, eventually: Eventually) -> None:
    client = await serve(simulated_time_scale=1, simulated_prefill_base_seconds=0, simulated_decode_base_seconds=3600)
    async with client.stream("POST", "/v1/chat/completions", json={**_CHAT, "stream": True}) as response:
        async for line in response.aiter_lines():
            if '"content":" ' in line:
                break
        assert await _running(client) == 1

    async def idle() -> bool:
        return await _running(client) == 0

    await eventually(idle, "the abort")


async def test_a_client_that_leaves_frees_its_slot_for_one_that_waits(serve: Serve, eventually: Eventually) -> None:
    times = {"simulated_time_scale": 1, "simulated_prefill_base_seconds": 0, "simulated_decode_base_seconds": 3600}
    client = await serve(max_num_seqs=1, **times)
    holder = asyncio.create_task(client.post("/v1/chat/completions", json=_CHAT))

    async def held() -> bool:
        return await _running(client) == 1

    await eventually(held, "the first request's admission")
    waiting = asyncio.create_task(client.post("/v1/completions", json={"prompt": "x", "max_tokens": 1}))

    async def queued() -> bool:
        return await _running(client) == 2

    await eventually(queued, "the second request's arrival")
    holder.cancel()

    assert (await waiting).json()["usage"]["completion_tokens"] == 1


async def test_a_slow_reader_loses_nothing(serve: Serve) -> None:
    client = await serve()
    body = {"prompt": "x", "max_tokens": 2000, "ignore_eos": True, "stream": True, "return_token_ids": True}
    ids: list[int] = []
    async with client.stream("POST", "/v1/completions", json=body) as response:
        async for line in response.aiter_lines():
            await asyncio.sleep(0)
            if line.startswith("data: {"):
                ids += json.loads(line.removeprefix("data: "))["choices"][0]["token_ids"]

    assert len(ids) == 2000
