"""A function's own hosts: what is served there, for whom, and what a mistake is told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pilotlight.activator.traffic import HostRule, Split
from pilotlight.activator.values import FunctionId

if TYPE_CHECKING:
    from tests.activator.conftest import Call, MakeRoute, ScriptedEngine, Stage

CHAT = FunctionId("team-a", "chat")
OTHER = FunctionId("team-a", "other")
HOST = {"Host": "chat.team-a.svc.cluster.local"}
KEY = "pl-alice"
DOMAIN = "chat.example.com:443"
NAMES = HostRule(("chat.team-a", "chat.team-a.svc", "chat.team-a.svc.cluster.local", "chat.example.com"))
ANSWER = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}


@pytest.fixture
def hosted(stage: Stage, engine: ScriptedEngine, make_route: MakeRoute) -> Stage:
    stage.apply(
        make_route(hosts=(NAMES,), adapters=("legal",), replicas=(engine.replica(),)),
        make_route(OTHER, hosts=(HostRule(("other.team-a",)),)),
    )
    return stage


async def ask(stage: Stage, engine: ScriptedEngine, headers: dict[str, str], body: dict[str, str]) -> Call:
    """One request that is served; as the engine saw it."""
    async with asyncio.TaskGroup() as group:
        status = group.create_task(stage.status(headers=headers, json={"prompt": "hello", **body}))
        call = await engine.call()
        await call.answer(ANSWER)
    assert status.result() == 200
    return call


@pytest.mark.parametrize("host", ["chat.team-a", "CHAT.team-a.SVC:8080", "chat.team-a.svc.cluster.local.", DOMAIN])
async def test_a_host_needs_no_model(hosted: Stage, engine: ScriptedEngine, host: str) -> None:
    call = await ask(hosted, engine, {"Host": host}, {})
    assert call.body["model"] == "served-chat"
    assert [(row.function, row.outcome, row.key) for row in hosted.meter.rows] == [(CHAT, "ok", "k-alice")]


@pytest.mark.parametrize(
    ("model", "served"),
    [("chat", "served-chat"), ("team-a/chat", "served-chat"), ("chat:legal", "legal"), ("legal", "legal")],
)
async def test_a_host_takes_every_name_of_its_function(
    hosted: Stage, engine: ScriptedEngine, model: str, served: str
) -> None:
    call = await ask(hosted, engine, HOST, {"model": model})
    assert call.body["model"] == served


@pytest.mark.parametrize("model", ["other", "team-a/other", "team-b/chat", "x" * 1000])
async def test_another_functions_name_is_a_mistake(hosted: Stage, model: str) -> None:
    status, error = await hosted.error(headers=HOST, json={"prompt": "hello", "model": model})
    assert (status, error["code"], error["param"]) == (400, "wrong_model", "model")
    assert "`chat.team-a.svc.cluster.local` is the function team-a/chat" in error["message"]
    assert "`chat:ADAPTER`" in error["message"]
    assert len(error["message"]) < 600


async def test_an_adapter_that_it_lacks_is_not_found(hosted: Stage) -> None:
    status, error = await hosted.error(headers=HOST, json={"prompt": "hello", "model": "chat:legall"})
    assert (status, error["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v2/models", "/f/team-a/chat/v1/completions", "/api/v1alpha1/keys", "/metrics"]
)
async def test_no_other_path_is_there(hosted: Stage, path: str) -> None:
    status, error = await hosted.error(path, headers=HOST)
    assert (status, error["code"], error["type"]) == (404, "not_found", "invalid_request_error")
    assert "team-a/chat" in error["message"]
    assert "/v1/chat/completions" in error["message"]


async def test_its_list_of_models_is_the_function_alone(hosted: Stage) -> None:
    sent = {**HOST, "Authorization": f"Bearer {KEY}"}
    async with hosted.client.get(f"{hosted.url}/v1/models", headers=sent) as response:
        names = [model["id"] for model in (await response.json())["data"]]
    async with hosted.client.get(f"{hosted.url}/v1/models/other", headers=sent) as other:
        assert other.status == 400
    assert names == ["chat", "chat:legal"]


@pytest.mark.parametrize(
    ("key", "status", "code"), [("pl-nobody", 401, "invalid_api_key"), ("pl-bob", 404, "model_not_found")]
)
async def test_a_host_opens_nothing_to_a_key(hosted: Stage, key: str, status: int, code: str) -> None:
    told, error = await hosted.error(headers=HOST, key=key)
    assert (told, error["code"]) == (status, code)
    assert hosted.meter.rows == []


async def test_a_host_of_nobody_serves_all_functions(hosted: Stage, engine: ScriptedEngine) -> None:
    call = await ask(hosted, engine, {"Host": "llm.example.com"}, {"model": "chat"})
    assert call.body["model"] == "served-chat"
    assert not hosted.activator.serves_host("llm.example.com")
    assert hosted.activator.serves_host("chat.example.com:8443")


@pytest.mark.parametrize(
    ("headers", "revision"),
    [
        ({"Host": "chat.team-a"}, "chat-1"),
        ({"Host": "chat.team-a", "Knative-Serving-Tag": "canary"}, "chat-2"),
        ({"Host": "chat.team-a", "Knative-Serving-Tag": "gone"}, "chat-1"),
        ({"Host": "canary-chat.team-a"}, "chat-2"),
    ],
    ids=["plain", "tag header", "unknown tag", "tag host"],
)
async def test_a_tag_reaches_its_revision(
    hosted: Stage, engine: ScriptedEngine, headers: dict[str, str], revision: str
) -> None:
    canary = (Split("chat-2", 100),)
    hosted.update(
        hosts=(
            NAMES,
            HostRule(("chat.team-a",), canary, (("Knative-Serving-Tag", "canary"),)),
            HostRule(("canary-chat.team-a",), canary),
        ),
        replicas=(engine.replica("a"), engine.replica("b", revision="chat-2")),
    )
    await ask(hosted, engine, headers, {})
    (row,) = hosted.meter.rows
    assert row.revision == revision


async def test_a_host_that_two_functions_claim_is_the_firsts(hosted: Stage, engine: ScriptedEngine) -> None:
    hosted.update(OTHER, hosts=(NAMES,))
    await ask(hosted, engine, HOST, {})
    assert hosted.meter.rows[0].function == CHAT
