"""The HTTP surface: keys, paths, names, bad bodies; nothing here needs an engine."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import generate_latest

from pilotlight.activator.settings import Settings
from pilotlight.activator.values import FunctionId

if TYPE_CHECKING:
    from tests.activator.conftest import MakeRoute, ScriptedEngine, Stage

CHAT = FunctionId("team-a", "chat")
OTHERS = FunctionId("team-b", "chat-secret")
MIB = 2**20
HEAD = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer pl-alice\r\n"


@pytest.fixture
def stage(stage: Stage, make_route: MakeRoute) -> Stage:
    embedder = make_route(FunctionId("team-a", "embedder"), task="embed")
    stage.apply(make_route(adapters=("legal",)), embedder, make_route(OTHERS))
    return stage


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param({"Authorization": "Bearer pl-wrong"}, id="wrong key"),
        pytest.param({"Authorization": "Basic pl-alice"}, id="wrong scheme"),
        pytest.param({"Authorization": "Bearer "}, id="empty"),
        pytest.param({"Authorization": "pl-alice"}, id="no scheme"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/completions", "/f/team-a/chat/v1/completions"])
async def test_without_a_known_key_the_answer_is_401(stage: Stage, headers: dict[str, str], path: str) -> None:
    async with stage.client.post(stage.url + path, headers=headers, json={"model": "chat", "prompt": "x"}) as response:
        assert response.status == 401
        error = (await response.json())["error"]
    assert (error["code"], error["type"]) == ("invalid_api_key", "authentication_error")
    assert stage.meter.rows == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/v1/responses", 404),
        ("POST", "/v1/", 404),
        ("GET", "/metrics", 404),
        ("POST", "/v1/abort_requests", 404),
        ("POST", "/f/team-a/chat/sleep", 404),
        ("POST", "/f/team-a/chat/v1/../../sleep", 404),
        ("POST", "/f//chat/v1/completions", 404),
    ],
)
async def test_other_paths_and_methods_are_refused(stage: Stage, method: str, path: str, status: int) -> None:
    async with stage.client.request(method, stage.url + path, headers={"Authorization": "Bearer pl-alice"}) as response:
        assert response.status == status
        assert "error" in await response.json()
        assert (status == 405) == ("Allow" in response.headers)


async def test_the_nearest_model_is_named_and_nothing_of_others(stage: Stage) -> None:
    status, error = await stage.error(model="chatt")
    assert (status, error["code"]) == (404, "model_not_found")
    assert "Did you mean `chat`?" in error["message"]
    status, error = await stage.error(model="chat-secre")
    assert status == 404
    assert "chat-secret" not in error["message"]
    status, error = await stage.error(path="/f/team-b/chat-secret/v1/completions")
    assert status == 404


@pytest.mark.parametrize("key", ["pl-alice", "pl-bob"])
async def test_models_lists_what_the_key_may_call(stage: Stage, key: str) -> None:
    async with stage.client.get(stage.url + "/v1/models", headers={"Authorization": f"Bearer {key}"}) as response:
        listed = [model["id"] for model in (await response.json())["data"]]
    assert listed == {"pl-alice": ["chat", "chat:legal", "embedder"], "pl-bob": ["chat-secret"]}[key]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/models/chat", 200),
        ("/v1/models/team-a/chat", 200),
        ("/v1/models/chat:legal", 200),
        ("/v1/models/chat-secret", 404),
        ("/f/team-a/chat/v1/models", 200),
        ("/f/team-a/chat/v1/models/chat", 200),
        ("/f/team-b/chat-secret/v1/models", 404),
    ],
)
async def test_single_models(stage: Stage, path: str, status: int) -> None:
    async with stage.client.get(stage.url + path, headers={"Authorization": "Bearer pl-alice"}) as response:
        assert response.status == status


@pytest.mark.parametrize(
    ("path", "model", "served"),
    [
        ("/v1/completions", "chat", "served-chat"),
        ("/v1/completions", "team-a/chat", "served-chat"),
        ("/v1/completions", "chat:legal", "legal"),
        ("/f/team-a/chat/v1/completions", None, "served-chat"),
        ("/f/team-a/chat/v1/completions", "served-chat", "served-chat"),
        ("/f/team-a/chat/v1/completions", "legal", "legal"),
    ],
)
async def test_the_engine_is_asked_by_its_own_name(
    stage: Stage, engine: ScriptedEngine, path: str, model: str | None, served: str
) -> None:
    stage.update(replicas=(engine.replica(),))
    async with asyncio.TaskGroup() as group:
        post = group.create_task(stage.status(path, model=model))
        call = await engine.call()
        await call.answer({"usage": {}})
        assert await post == 200
    assert call.body["model"] == served


async def test_the_model_is_required_where_the_path_does_not_name_it(stage: Stage) -> None:
    status, error = await stage.error(model=None)
    assert (status, error["param"]) == (400, "model")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"model": "chat", "input": "x"}),
        ("/v1/completions", {"model": "embedder", "prompt": "x"}),
        ("/v1/chat/completions", {"model": "embedder", "messages": [{"role": "user", "content": "x"}]}),
    ],
)
async def test_the_wrong_endpoint_for_a_task_is_400(stage: Stage, path: str, body: dict[str, Any]) -> None:
    status, error = await stage.error(path, json=body)
    assert (status, error["code"]) == (400, "wrong_task")
    assert (await stage.row()).outcome == "rejected"


async def test_embeddings_pass_and_are_metered(stage: Stage, engine: ScriptedEngine) -> None:
    function = FunctionId("team-a", "embedder")
    stage.update(function, replicas=(engine.replica(),))
    async with asyncio.TaskGroup() as group:
        body = {"model": "embedder", "input": ["a", "b"]}
        post = group.create_task(stage.status("/v1/embeddings", json=body))
        call = await engine.call()
        await call.answer({"data": [], "usage": {"prompt_tokens": 6, "total_tokens": 6, "completion_tokens": 0}})
        assert await post == 200
    assert call.path == "/v1/embeddings"
    row = await stage.row()
    assert (row.prompt_tokens, row.completion_tokens, row.function) == (6, 0, function)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b'{"model": "chat", ', "invalid_json", id="malformed"),
        pytest.param(b"[" * 100_000, "invalid_json", id="deep"),
        pytest.param(b'{"model": "chat", "prompt": "x", "n": 1000000000}', "invalid_value", id="n"),
        pytest.param(
            b'{"model": "chat", "prompt": "x", "max_tokens": 1001}', "context_length_exceeded", id="max_tokens"
        ),
        pytest.param(
            json.dumps({"model": "chat", "prompt": [1] * 1001}).encode(), "context_length_exceeded", id="prompt"
        ),
    ],
)
async def test_bad_bodies_are_refused_before_anything_is_held(stage: Stage, data: bytes, code: str) -> None:
    status, error = await stage.error(data=data)
    assert (status, error["code"]) == (400, code)
    assert stage.waker.woken == []
    assert stage.meter.admissions == []


async def test_the_words_for_too_many_tokens_are_the_engines(stage: Stage) -> None:
    _, error = await stage.error(max_tokens=1001)
    assert error["message"] == (
        "max_tokens=1001 cannot be greater than max_model_len=1000. Please request fewer output tokens. "
        "(parameter=max_tokens, value=1001)"
    )
    _, error = await stage.error(prompt=[1] * 1005)
    assert error["message"] == (
        "This model's maximum context length is 1000 tokens. However, your prompt contains 1005 input tokens, which "
        "exceeds this limit even without any output tokens. Please reduce the length of the input prompt. "
        "(parameter=input_tokens, value=1005)"
    )


async def test_a_body_that_announces_100_mb_is_refused_without_being_read(stage: Stage) -> None:
    port = int(stage.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write((HEAD + "Content-Length: 104857600\r\n\r\n").encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer
    writer.close()


async def test_a_body_of_100_mb_is_refused_while_it_is_counted(stage: Stage) -> None:
    async def endless() -> Any:
        for _ in range(100):
            yield b" " * MIB

    async with stage.post(data=endless()) as response:
        assert response.status == 413
        assert (await response.json())["error"]["code"] == "request_too_large"
    assert await stage.status(model="nope") == 404, "the activator goes on"


class TestSlowBody:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(tick_seconds=0.005, body_seconds=0.05, linger_seconds=0.05)

    async def test_a_body_that_does_not_come_is_given_up(self, stage: Stage) -> None:
        port = int(stage.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write((HEAD + "Content-Length: 10\r\n\r\n{").encode())
        assert (await reader.read()).startswith(b"HTTP/1.1 408")
        writer.close()


async def test_requests_in_one_go_are_answered_in_order_on_one_connection(stage: Stage, engine: ScriptedEngine) -> None:
    """A chunked body, an answer without one, and a refusal, sent before the first was answered."""
    stage.update(replicas=(engine.replica(),))
    body = b'{"model": "chat", "prompt": "x"}'
    chunked = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    models = "/v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
    sent = (HEAD + "Transfer-Encoding: chunked\r\n\r\n").encode() + chunked
    sent += f"HEAD {models}pl-alice\r\n\r\nGET {models}pl-wrong\r\nConnection: close\r\n\r\n".encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(stage.url.rpartition(":")[2]))
    writer.write(sent)
    async with asyncio.TaskGroup() as group:
        answers = group.create_task(reader.read())
        await (await engine.call()).answer({"usage": {"prompt_tokens": 1, "completion_tokens": 1}})
    answered = answers.result()
    assert [part[:3] for part in answered.split(b"HTTP/1.1 ")[1:]] == [b"200", b"200", b"401"]
    assert answered.count(b'"object"') == 0, "the answer to HEAD has no body"
    assert (await stage.row()).completion_tokens == 1
    writer.close()


async def test_a_client_that_leaves_within_its_body_leaves_nothing(stage: Stage) -> None:
    port = int(stage.url.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write((HEAD + "Content-Length: 99\r\n\r\n{").encode())
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert await stage.status(model="nope") == 404
    assert stage.meter.admissions == []


async def test_metrics_tell_requests_tokens_and_times(stage: Stage, engine: ScriptedEngine) -> None:
    stage.update(replicas=(engine.replica(),))
    async with asyncio.TaskGroup() as group:
        post = group.create_task(stage.status(stream=True))
        call = await engine.call()
        await call.start()
        await call.tokens("one", [1, 2], total=2, prompt=5)
        await call.done(total=2, prompt=5)
        assert await post == 200
    await stage.row()
    text = generate_latest(stage.activator.metrics.registry).decode()
    for line in (
        'pilotlight_activator_requests_total{function="team-a/chat",outcome="ok"} 1.0',
        'pilotlight_activator_tokens_total{function="team-a/chat",kind="prompt"} 5.0',
        'pilotlight_activator_tokens_total{function="team-a/chat",kind="completion"} 2.0',
        'pilotlight_activator_hold_seconds_count{function="team-a/chat"} 1.0',
        'pilotlight_activator_time_to_first_token_seconds_count{function="team-a/chat"} 1.0',
        'pilotlight_activator_queued{function="team-a/chat"} 0.0',
        'pilotlight_activator_in_flight{function="team-a/chat"} 0.0',
    ):
        assert line in text


async def test_a_failing_meter_refuses_what_it_cannot_record(
    stage: Stage, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> None:
        raise OSError("no space left on device")

    stage.update(replicas=(engine.replica(),))
    monkeypatch.setattr(stage.meter, "admitted", full)
    status, error = await stage.error()
    assert (status, error["code"]) == (503, "ledger_unwritable")
    assert "space" not in error["message"]
    assert engine.pending == 0
    assert stage.demand() == (0, 0)


class TestFailingWaker:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(tick_seconds=0.005, wake_repeat_seconds=0.0)

    async def test_it_costs_no_row(self, stage: Stage, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        """One request ends while another waits, and the host cannot be told of that one."""

        def broken(_: object) -> None:
            raise RuntimeError("the host is gone")

        stage.update(replicas=(engine.replica(slots=1),))
        async with asyncio.TaskGroup() as group:
            first = group.create_task(stage.status())
            call = await engine.call()
            second = group.create_task(stage.status())
            await stage.held(1)
            stage.update(replicas=(engine.replica(slots=1, accepting=False),))
            monkeypatch.setattr(stage.waker, "wake", broken)
            await call.answer({"usage": {}})
            await first
            assert (await stage.row()).replica == "r1"
            second.cancel()


async def test_an_equal_route_with_a_new_context_counts_at_once(stage: Stage) -> None:
    stage.apply(replace(stage.routes[CHAT], context=10))
    assert (await stage.error(max_tokens=11))[0] == 400
