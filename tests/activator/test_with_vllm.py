"""Against real vLLM: its chunks, its words, its counters. One engine serves all of this file's checks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pilotlight.activator.values import FunctionId, Replica

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.activator.conftest import ReadEvent, ReadRest, Stage, WaitFor

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

CHAT = FunctionId("team-a", "chat")
CONTEXT = 256
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
ENGINE = {"Authorization": "Bearer engine-secret"}


@pytest.fixture
def vllm(smollm2: Path, tmp_path: Path) -> Iterator[Replica]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(smollm2)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "served-chat", "--enforce-eager"]
    command += ["--dtype", "float32", "--max-model-len", str(CONTEXT), "--max-num-seqs", "8"]
    environment = {"VLLM_API_KEY": "engine-secret", "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    environment |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "2"}
    log = tmp_path / "vllm.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **environment})
    try:
        _wait(process, log, f"http://127.0.0.1:{port}/health")
        yield Replica("r1", "chat-1", f"http://127.0.0.1:{port}", "engine-secret", slots=8)
    finally:
        process.terminate()
        process.wait(60)


def _wait(process: subprocess.Popen[bytes], log: Path, url: str) -> None:
    """Until it is healthy; a start takes minutes where others use the processors."""
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.2)
    pytest.fail(log.read_text(errors="replace")[-3000:])


async def test_the_activator_and_real_vllm_agree(
    stage: Stage, vllm: Replica, smollm2: Path, read_event: ReadEvent, read_rest: ReadRest, wait_for: WaitFor
) -> None:
    stage.update(replicas=(vllm,), context=CONTEXT, tokenizer=smollm2)
    await _a_stream_is_the_answer_without_what_was_not_asked_for(stage, read_rest)
    await _several_choices_and_an_echo_pass(stage, read_rest)
    await _prompts_are_refused_exactly_where_the_engine_refuses_them(stage, vllm)
    await _tokens_metered_are_the_engines(stage, vllm)
    await _a_client_that_leaves_frees_the_engine(stage, vllm, read_event, wait_for)
    assert {row.replica for row in stage.meter.rows if row.completion_tokens} == {vllm.id}


async def _a_stream_is_the_answer_without_what_was_not_asked_for(stage: Stage, read_rest: ReadRest) -> None:
    body = {"model": "chat", "messages": QUESTION, "max_tokens": 20, "temperature": 0}
    async with stage.post("/v1/chat/completions", json=body) as response:
        whole = await response.json()
    events = await read_rest(await stage.open("/v1/chat/completions", json={**body, "stream": True}))
    assert "token_ids" not in "".join(events)
    assert "usage" not in "".join(events)
    assert _text(events) == whole["choices"][0]["message"]["content"]
    assert "Paris" in _text(events)
    asked, streamed = stage.meter.rows[-2:]
    assert (asked.prompt_tokens, asked.completion_tokens) == (streamed.prompt_tokens, streamed.completion_tokens)
    assert streamed.completion_tokens == whole["usage"]["completion_tokens"]
    options = {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    events = await read_rest(await stage.open("/v1/chat/completions", json={**body, **options}))
    assert _chunks(events)[-1]["usage"]["completion_tokens"] == streamed.completion_tokens
    assert all("usage" in chunk for chunk in _chunks(events))


async def _several_choices_and_an_echo_pass(stage: Stage, read_rest: ReadRest) -> None:
    body = {"model": "chat", "prompt": "One, two,", "max_tokens": 5, "stream": True, "ignore_eos": True}
    events = await read_rest(await stage.open(json={**body, "n": 3, "temperature": 1.0}))
    assert {choice["index"] for chunk in _chunks(events) for choice in chunk["choices"]} == {0, 1, 2}
    assert stage.meter.rows[-1].completion_tokens == 15
    events = await read_rest(await stage.open(json={**body, "echo": True}))
    assert "".join(chunk["choices"][0]["text"] for chunk in _chunks(events)).startswith("One, two,")
    assert stage.meter.rows[-1].completion_tokens == 5


async def _prompts_are_refused_exactly_where_the_engine_refuses_them(stage: Stage, vllm: Replica) -> None:
    refused = 0
    for words in (1, 220, 254, 255, 256, 257, 300, 20_000):
        text = "word " * words
        for path, body in (
            ("completions", {"prompt": text.strip(), "max_tokens": 1 if words > 1 else 300}),
            ("completions", {"prompt": [17] * words, "max_tokens": 1}),
            ("chat/completions", {"messages": [{"role": "user", "content": text}], "max_tokens": 1}),
        ):
            async with stage.client.post(
                f"{vllm.url}/v1/{path}", json={"model": "served-chat", **body}, headers=ENGINE
            ) as answer:
                expected = await answer.json()
                status = answer.status
            admitted = len(stage.meter.admissions)
            async with stage.post(f"/v1/{path}", json={"model": "chat", **body}) as response:
                assert response.status == status, (path, words)
                if status == 200:
                    continue
                refused += 1
                told = (await response.json())["error"]
                assert (told["message"], told["param"]) == (expected["error"]["message"], expected["error"]["param"])
            assert len(stage.meter.admissions) == admitted, "refused before it was held"
    assert refused >= 9


async def _tokens_metered_are_the_engines(stage: Stage, vllm: Replica) -> None:
    before = await _metric(stage, vllm, "vllm:generation_tokens_total")
    rows = len(stage.meter.rows)
    async with asyncio.TaskGroup() as group:
        for number in range(6):
            body = {"model": "chat", "messages": QUESTION, "max_tokens": 12, "stream": number % 2 == 0, "seed": number}
            group.create_task(stage.status("/v1/chat/completions", json=body))
    made = await _metric(stage, vllm, "vllm:generation_tokens_total") - before
    assert sum(row.completion_tokens for row in stage.meter.rows[rows:]) == made


async def _a_client_that_leaves_frees_the_engine(
    stage: Stage, vllm: Replica, read_event: ReadEvent, wait_for: WaitFor
) -> None:
    rows = len(stage.meter.rows)
    body = {"model": "chat", "messages": QUESTION, "max_tokens": 200, "stream": True, "ignore_eos": True}
    response = await stage.open("/v1/chat/completions", json=body)
    for _ in range(3):
        await read_event(response)
    response.close()
    await wait_for(lambda: len(stage.meter.rows) > rows, "its row")
    assert stage.meter.rows[-1].outcome == "cancelled"
    assert 0 < stage.meter.rows[-1].completion_tokens < 200
    async with asyncio.timeout(30):
        while await _metric(stage, vllm, "vllm:num_requests_running"):
            continue


async def _metric(stage: Stage, vllm: Replica, name: str) -> float:
    async with stage.client.get(vllm.url + "/metrics", headers=ENGINE) as response:
        lines = (await response.text()).splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name + "{"))


def _chunks(events: list[str]) -> list[dict[str, Any]]:
    return [json.loads(event.removeprefix("data: ")) for event in events if event.startswith("data: {")]


def _text(events: list[str]) -> str:
    return "".join(choice["delta"].get("content") or "" for chunk in _chunks(events) for choice in chunk["choices"])
