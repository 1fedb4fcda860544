"""Answers have vLLM's shape: its own protocol classes read them and write the very same again."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

Serve = Callable[..., Awaitable[httpx.AsyncClient]]
Answer = tuple[str, object, bool]  # class, body, whether unset fields are left out

pytestmark = pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")

_USAGE = {"include_usage": True, "continuous_usage_stats": True}
_CHAT = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3}
_TEXT = {"prompt": "Hello", "max_tokens": 3}


async def _whole_answers(client: httpx.AsyncClient) -> list[Answer]:
    async def post(path: str, body: dict[str, object]) -> object:
        return (await client.post(path, json=body)).json()

    answers: list[Answer] = []
    for ids in (False, True):
        chat = await post("/v1/chat/completions", {**_CHAT, "n": 2, "return_token_ids": ids})
        text = await post("/v1/completions", {**_TEXT, "n": 2, "return_token_ids": ids})
        answers += [("ChatCompletionResponse", chat, False), ("CompletionResponse", text, False)]
    for encoding in ("float", "base64"):
        vectors = await post("/v1/embeddings", {"input": ["one", "two"], "encoding_format": encoding})
        answers.append(("EmbeddingResponse", vectors, False))
    answers.append(("ModelList", (await client.get("/v1/models")).json(), False))
    for wrong in ({"model": "nobody"}, {"n": 0}, {"max_tokens": "many"}):
        answers.append(("ErrorResponse", await post("/v1/completions", {**_TEXT, **wrong}), False))
    return answers


async def _stream_answers(client: httpx.AsyncClient) -> list[Answer]:
    answers: list[Answer] = []
    for path, body, name in (
        ("/v1/chat/completions", _CHAT, "ChatCompletionStreamResponse"),
        ("/v1/completions", _TEXT, "CompletionStreamResponse"),
    ):
        for more in ({}, {"return_token_ids": True, "stream_options": _USAGE}):
            lines = (await client.post(path, json={**body, **more, "stream": True})).text.splitlines()
            events = [line.removeprefix("data: ") for line in lines if line.startswith("data: {")]
            answers += [(name, json.loads(event), True) for event in events]
    return answers


def _read_with_vllm(answers: list[Answer]) -> dict[str, Any]:
    line = [sys.executable, str(Path(__file__).with_name("reading_with_vllm.py"))]
    done = subprocess.run(line, input=json.dumps(answers), capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    output: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return output


async def test_vllms_classes_read_the_answers_and_write_the_same_again(serve: Serve) -> None:
    client = await serve()
    answers = await _whole_answers(client) + await _stream_answers(client)
    output = await asyncio.to_thread(_read_with_vllm, answers)

    for (name, ours, _), (theirs, unknown) in zip(answers, output["read"], strict=True):
        assert unknown == [], name
        # As text: the order of the fields counts too.
        assert json.dumps(ours, indent=1) == json.dumps(theirs, indent=1), name
    metrics = (await client.get("/metrics")).text
    for name, bounds in output["buckets"].items():
        found = re.findall(rf'^{name}_bucket{{.*le="([\d.]+)"', metrics, re.MULTILINE)
        assert [float(bound) for bound in found] == bounds, name


async def test_metrics_have_vllms_names_and_kinds(serve: Serve) -> None:
    spec = importlib.util.find_spec("vllm")
    assert spec is not None
    assert spec.origin is not None
    source = (Path(spec.origin).parent / "v1/metrics/loggers.py").read_text()
    types = re.findall(r"^# TYPE (\S+) (\w+)", (await (await serve()).get("/metrics")).text, re.MULTILINE)
    assert types
    for name, kind in types:
        # A "created" time stands beside each counter and histogram, made by the client library in both.
        if name.endswith("_created"):
            continue
        declared = name.removesuffix("_total") if kind == "counter" else name
        assert f'"{declared}"' in source, name
