"""Failures on demand."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Awaitable, Callable

import httpx
import pytest

Serve = Callable[..., Awaitable[httpx.AsyncClient]]
Spawn = Callable[..., "subprocess.Popen[str]"]
Endpoint = Callable[["subprocess.Popen[str]"], str]
Eventually = Callable[[Callable[[], Awaitable[bool]], str], Awaitable[None]]

_BODY: dict[str, object] = {"prompt": "Hello", "max_tokens": 50, "ignore_eos": True}


async def _status(client: httpx.AsyncClient) -> int:
    return (await client.post("/v1/completions", json=_BODY)).status_code


async def test_the_first_requests_are_answered_with_500(serve: Serve) -> None:
    client = await serve(simulated_error_requests=2)
    response = await client.post("/v1/completions", json=_BODY)

    assert (response.status_code, response.json()["error"]["type"]) == (500, "InternalServerError")
    assert [await _status(client) for _ in range(2)] == [500, 200]


async def test_a_stalled_request_waits_while_others_are_answered(serve: Serve, eventually: Eventually) -> None:
    client = await serve(simulated_stall_requests=1)
    stalled = asyncio.create_task(_status(client))

    async def arrived() -> bool:
        return bool((await client.get("/load")).json() == {"server_load": 1})

    await eventually(arrived, "the stalled request's arrival")
    assert await _status(client) == 200
    assert not stalled.done()
    stalled.cancel()


@pytest.mark.parametrize("after", [0, 3])
async def test_a_dropped_stream_breaks_off_without_its_mark(serve: Serve, after: int) -> None:
    client = await serve(
        simulated_drop_requests=1,
        simulated_drop_after_tokens=after,
        simulated_time_scale=1,
        simulated_prefill_base_seconds=0,
        simulated_decode_base_seconds=0.001,
    )
    body = {**_BODY, "stream": True, "return_token_ids": True}
    ids: list[int] = []

    async def read() -> None:
        async with client.stream("POST", "/v1/completions", json=body) as response:
            async for line in response.aiter_lines():
                assert "[DONE]" not in line
                if line:
                    ids.extend(json.loads(line.removeprefix("data: "))["choices"][0]["token_ids"])

    with pytest.raises(httpx.RemoteProtocolError):
        await read()

    assert after <= len(ids) < 50
    assert "[DONE]" in (await client.post("/v1/completions", json=body)).text


async def test_a_process_dies_at_the_request_after_the_allowed_ones(spawn: Spawn, endpoint: Endpoint) -> None:
    process = spawn(simulated_crash_after_requests=1, simulated_fail_code=9)
    async with httpx.AsyncClient(base_url=endpoint(process), timeout=30) as client:
        assert await _status(client) == 200
        with pytest.raises(httpx.TransportError):
            await _status(client)

    assert process.wait(30) == 9


async def test_a_process_dies_mid_stream_after_the_allowed_tokens(spawn: Spawn, endpoint: Endpoint) -> None:
    process = spawn(simulated_crash_after_tokens=20)
    async with httpx.AsyncClient(base_url=endpoint(process), timeout=30) as client:
        with pytest.raises(httpx.TransportError):
            await client.post("/v1/completions", json={**_BODY, "stream": True})

    assert process.wait(30) == 1
