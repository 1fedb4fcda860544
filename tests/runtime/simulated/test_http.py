"""Answers over real HTTP: whole ones, errors, identity, metrics."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import Awaitable, Callable

import httpx
import pytest

from pilotlight.runtime.simulated.tokens import VOCABULARY, decode

Serve = Callable[..., Awaitable[httpx.AsyncClient]]
Eventually = Callable[[Callable[[], Awaitable[bool]], str], Awaitable[None]]
Json = dict[str, object]

_HELLO: Json = {"messages": [{"role": "user", "content": "Hello there"}], "max_tokens": 5, "ignore_eos": True}


async def _chat(client: httpx.AsyncClient, **fields: object) -> httpx.Response:
    return await client.post("/v1/chat/completions", json={**_HELLO, **fields})


async def _metric(client: httpx.AsyncClient, name: str, label: str = "") -> float:
    lines = (await client.get("/metrics")).text.splitlines()
    [line] = [line for line in lines if line.startswith(f"vllm:{name}{{") and label in line]
    return float(line.split()[-1])


async def test_a_whole_answer_has_text_ids_and_usage_that_agree(serve: Serve) -> None:
    body = (await _chat(await serve(), return_token_ids=True)).json()
    [choice] = body["choices"]

    assert choice["message"]["content"] == decode(choice["token_ids"])
    assert choice["finish_reason"] == "length"
    prompt = len(body["prompt_token_ids"])
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (prompt, 5)
    assert body["usage"]["total_tokens"] == prompt + 5


async def test_the_same_seed_repeats_an_answer_and_another_changes_it(serve: Serve) -> None:
    first, second = await serve(), await serve()
    contents = [
        (await _chat(client, seed=seed)).json()["choices"][0]["message"]["content"]
        for client, seed in ((first, 1), (second, 1), (first, 2))
    ]

    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


async def test_n_choices_differ_unless_greedy(serve: Serve) -> None:
    client = await serve()

    async def answers(temperature: float) -> list[str]:
        body = (await _chat(client, n=3, temperature=temperature)).json()
        assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
        assert body["usage"]["completion_tokens"] == 15
        return [choice["message"]["content"] for choice in body["choices"]]

    assert len(set(await answers(1.0))) == 3
    assert len(set(await answers(0.0))) == 1


async def test_a_chat_resumed_as_a_completion_goes_on_token_for_token(serve: Serve) -> None:
    client = await serve()
    whole = (await _chat(client, max_tokens=12, seed=7, return_token_ids=True)).json()
    ids = whole["choices"][0]["token_ids"]
    resumed = {"prompt": whole["prompt_token_ids"] + ids[:5], "max_tokens": 7, "seed": 7, "ignore_eos": True}
    rest = (await client.post("/v1/completions", json={**resumed, "return_token_ids": True})).json()

    assert rest["choices"][0]["token_ids"] == ids[5:]


async def test_several_prompts_are_answered_in_order(serve: Serve) -> None:
    client = await serve()
    asked = {"max_tokens": 4, "ignore_eos": True, "seed": 3}
    both = (await client.post("/v1/completions", json={**asked, "prompt": ["one", "two"], "n": 2})).json()
    single = (await client.post("/v1/completions", json={**asked, "prompt": "two", "n": 2})).json()

    texts = [choice["text"] for choice in both["choices"]]
    assert texts[2:] == [choice["text"] for choice in single["choices"]]


async def test_a_completion_without_a_limit_makes_sixteen_tokens(serve: Serve) -> None:
    body = (await (await serve()).post("/v1/completions", json={"prompt": "x", "ignore_eos": True})).json()

    assert body["usage"]["completion_tokens"] == 16


async def test_a_chat_without_a_limit_fills_the_context(serve: Serve) -> None:
    body = (await _chat(await serve(max_model_len=64), max_tokens=None)).json()

    assert body["usage"]["total_tokens"] == 64


async def test_the_request_id_becomes_the_answers_id(serve: Serve) -> None:
    client = await serve()
    headers = {"X-Request-Id": "abc-1"}
    chat = await client.post("/v1/chat/completions", json=_HELLO, headers=headers)
    completion = await client.post("/v1/completions", json={"prompt": "x"}, headers=headers)

    assert (chat.json()["id"], completion.json()["id"]) == ("chatcmpl-abc-1", "cmpl-abc-1")


async def test_repeated_prompts_report_their_cached_tokens(serve: Serve) -> None:
    client = await serve(block_size=4)
    long: Json = {"messages": [{"role": "user", "content": "the same beginning " * 4}]}
    cached = [(await _chat(client, **long)).json()["usage"]["prompt_tokens_details"]["cached_tokens"] for _ in "ab"]

    assert cached[0] == 0
    assert cached[1] > 0
    assert await _metric(client, "prefix_cache_hits_total") == cached[1]


async def test_embeddings_are_unit_vectors_that_depend_on_the_text_alone(serve: Serve) -> None:
    client = await serve(simulated_dimensions=8)
    body = (await client.post("/v1/embeddings", json={"input": ["one", "two", "one"]})).json()
    one, two, again = (entry["embedding"] for entry in body["data"])

    assert one == again != two
    assert sum(value * value for value in one) == pytest.approx(1.0)
    assert body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"] > 0
    packed = (await client.post("/v1/embeddings", json={"input": "one", "encoding_format": "base64"})).json()
    assert struct.unpack("<8f", base64.b64decode(packed["data"][0]["embedding"])) == pytest.approx(one, rel=1e-6)


@pytest.mark.parametrize(
    ("runner", "path"),
    [("pooling", "/v1/chat/completions"), ("pooling", "/v1/completions"), ("generate", "/v1/embeddings")],
)
async def test_an_engine_offers_only_its_runners_routes(serve: Serve, runner: str, path: str) -> None:
    response = await (await serve(runner=runner)).post(path, json={})

    assert (response.status_code, response.json()["error"]["type"]) == (404, "Not Found")


async def test_it_lists_every_served_name(serve: Serve) -> None:
    body = (await (await serve(max_model_len=99)).get("/v1/models")).json()

    assert [(card["id"], card["max_model_len"], card["parent"]) for card in body["data"]] == [
        ("chat", 99, None),
        ("team/chat", 99, None),
        ("legal", None, "chat"),
        ("medical", None, "chat"),
    ]


async def test_an_adapter_answers_in_its_own_name_and_otherwise_than_the_model(serve: Serve) -> None:
    client = await serve(block_size=1)
    answers = [(await _chat(client, model=name)).json() for name in ("chat", "team/chat", "legal", "medical")]
    contents = [answer["choices"][0]["message"]["content"] for answer in answers]

    assert [answer["model"] for answer in answers] == ["chat", "chat", "legal", "medical"]
    assert contents[0] == contents[1]
    assert len(set(contents)) == 3
    cached = [answer["usage"]["prompt_tokens_details"]["cached_tokens"] for answer in answers]
    assert [bool(tokens) for tokens in cached] == [False, True, False, False]


async def test_health_and_version_need_no_key_and_v1_does(serve: Serve) -> None:
    client = await serve(key="secret")
    for path in ("/health", "/version", "/metrics"):
        assert (await client.get(path, headers={"authorization": ""})).status_code == 200
    for wrong in ("", "Bearer other", "Basic secret"):
        response = await client.post("/v1/chat/completions", json=_HELLO, headers={"authorization": wrong})
        assert (response.status_code, response.json()) == (401, {"error": "Unauthorized"})

    assert (await _chat(client)).status_code == 200
    assert (await client.get("/version")).json() == {"version": "0.32.0"}


@pytest.mark.parametrize(
    ("fields", "status", "kind", "param", "words"),
    [
        pytest.param({"model": "chatt"}, 404, "NotFoundError", "model", "`chatt` does not exist", id="unknown model"),
        pytest.param({"n": 10**9}, 400, "BadRequestError", None, "n must be at most 16384", id="too many choices"),
        pytest.param({"n": 0}, 400, "BadRequestError", None, "n must be at least 1", id="no choices"),
        pytest.param({"max_tokens": 5000}, 400, "BadRequestError", "max_tokens", "max_model_len=4096", id="long"),
        pytest.param({"max_tokens": 0}, 400, "BadRequestError", "max_tokens", "at least 1", id="no answer"),
        pytest.param({"min_tokens": 6}, 400, "BadRequestError", None, "max_tokens=5, got 6", id="least above most"),
        pytest.param({"stream_options": {}, "stream": False}, 400, "Bad Request", "stream_options", "", id="whole"),
        pytest.param({"temperature": 3}, 400, "BadRequestError", "temperature", "in [0, 2], got 3", id="hot"),
        pytest.param({"messages": "hi"}, 400, "Bad Request", "body.messages", "valid array", id="messages"),
        pytest.param({"stop": ["a"] * 5}, 400, "Bad Request", "body.stop", "at most 4", id="stops"),
        pytest.param({"logprobs": True}, 400, "BadRequestError", "logprobs", "does not support", id="logprobs"),
        pytest.param({"priority": 1}, 400, "BadRequestError", None, "riority", id="priority"),
        pytest.param(
            {"messages": [{"role": "user", "content": "word " * 5000}]},
            400, "BadRequestError", "input_tokens", "maximum context length is 4096 tokens", id="long prompt",
        ),
    ],
)  # fmt: skip
async def test_bad_requests_are_refused_in_the_engines_words(
    serve: Serve, fields: Json, status: int, kind: str, param: str | None, words: str
) -> None:
    response = await _chat(await serve(), **fields)
    error = response.json()["error"]

    assert (response.status_code, error["code"], error["type"], error["param"]) == (status, status, kind, param)
    assert words in error["message"]


async def test_sequences_of_one_request_are_bounded_together(serve: Serve) -> None:
    body = {"prompt": ["a"] * 1000, "n": 1000, "max_tokens": 1}
    response = await (await serve()).post("/v1/completions", json=body)

    assert response.status_code == 400
    assert "1000000 sequences" in response.json()["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"prompt": 3}', b'{"prompt": []}', b'{"prompt": [1, -1]}'])
async def test_malformed_bodies_are_refused(serve: Serve, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    response = await (await serve()).post("/v1/completions", content=body, headers=headers)

    assert (response.status_code, response.json()["error"]["code"]) == (400, 400)
    assert len(response.content) < 1000


async def test_only_json_is_read(serve: Serve) -> None:
    response = await (await serve()).post("/v1/completions", content=json.dumps(_HELLO))

    assert response.status_code == 400
    assert "Unsupported Media Type" in response.json()["error"]["message"]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("GET", "/v1/completions", 405)])
async def test_unknown_routes_are_refused(serve: Serve, method: str, path: str, status: int) -> None:
    assert (await (await serve()).request(method, path)).status_code == status


async def test_ids_outside_the_vocabulary_are_refused(serve: Serve) -> None:
    response = await (await serve()).post("/v1/completions", json={"prompt": [VOCABULARY]})

    assert response.status_code == 400


async def test_counters_add_up(serve: Serve) -> None:
    client = await serve(enable_prefix_caching=False)
    usages = [(await _chat(client, n=n)).json()["usage"] for n in (1, 3)]
    generated = sum(usage["completion_tokens"] for usage in usages)

    assert await _metric(client, "generation_tokens_total") == generated == 20
    assert await _metric(client, "request_success_total", 'finished_reason="length"') == 4
    assert await _metric(client, "time_to_first_token_seconds_count") == 4
    assert await _metric(client, "inter_token_latency_seconds_count") == generated - 4
    assert await _metric(client, "prompt_tokens_total") == 4 * usages[0]["prompt_tokens"]
    steps = await _metric(client, "iteration_tokens_total_sum")
    assert steps == generated + await _metric(client, "prompt_tokens_total")


async def test_gauges_show_who_runs_and_who_waits(serve: Serve, eventually: Eventually) -> None:
    client = await serve(simulated_time_scale=1, simulated_prefill_base_seconds=3600, max_num_seqs=2, block_size=8)
    calls = [asyncio.create_task(_chat(client)) for _ in range(5)]

    async def full() -> bool:
        return await _metric(client, "num_requests_waiting") == 3

    await eventually(full, "a queue of three")
    assert await _metric(client, "num_requests_running") == 2
    assert await _metric(client, "kv_cache_usage_perc") > 0
    assert (await client.get("/load")).json() == {"server_load": 5}
    for call in calls:
        call.cancel()

    async def empty() -> bool:
        running, waiting = await _metric(client, "num_requests_running"), await _metric(client, "num_requests_waiting")
        return running == waiting == 0

    await eventually(empty, "an empty engine after its clients have left")
    assert await _metric(client, "request_success_total", 'finished_reason="abort"') == 0
