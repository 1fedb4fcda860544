"""The engine key guards every route but the three that tell nothing of a request."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import pytest

from pilotlight.runtime.engines.vllm_key import IN_FLIGHT, OPEN, EngineKey


async def _app(scope: MutableMapping[str, Any], receive: object, send: Any) -> None:  # noqa: ARG001  ASGI's signature
    await send({"type": "passed"})


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> EngineKey:
    monkeypatch.setenv("VLLM_API_KEY", "right")
    return EngineKey(_app)


async def _call(app: EngineKey, kind: str, method: str, path: str, *authorization: bytes) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(dict(message))

    async def receive() -> dict[str, Any]:
        return {}

    headers = [(b"authorization", value) for value in authorization]
    await app({"type": kind, "method": method, "path": path, "headers": headers}, receive, send)
    return sent


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/invocations", "/tokenize", "/ping", "/load", "/health/", "/"]
)
async def test_no_other_route_answers_without_the_key(guarded: EngineKey, path: str) -> None:
    for authorization in ((), (b"Bearer wrong",), (b"right",), (b"Bearer right", b"Bearer wrong")):
        sent = await _call(guarded, "http", "POST", path, *authorization)
        assert sent[0]["status"] == 401
    assert await _call(guarded, "http", "POST", path, b"Bearer right") == [{"type": "passed"}]


async def test_the_open_routes_are_open_for_reading_only(guarded: EngineKey) -> None:
    for path in OPEN:
        assert await _call(guarded, "http", "GET", path) == [{"type": "passed"}]
        assert (await _call(guarded, "http", "OPTIONS", path))[0]["status"] == 401


async def test_requests_in_hand_are_counted_until_their_end_even_when_it_is_bad(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "right")
    counts: list[bytes] = []

    async def app(scope: MutableMapping[str, Any], receive: object, send: object) -> None:  # noqa: ARG001
        counts.append((await _call(key, "http", "GET", IN_FLIGHT, b"Bearer right"))[1]["body"])
        raise ConnectionResetError

    key = EngineKey(app)
    with pytest.raises(ConnectionResetError):
        await _call(key, "http", "POST", "/v1/completions", b"Bearer right")
    counts.append((await _call(key, "http", "GET", IN_FLIGHT, b"Bearer right"))[1]["body"])
    assert counts == [b'{"in_flight":1}', b'{"in_flight":0}']
    assert (await _call(key, "http", "GET", IN_FLIGHT))[0]["status"] == 401


async def test_a_websocket_without_the_key_is_closed(guarded: EngineKey) -> None:
    assert (await _call(guarded, "websocket", "GET", "/v1/realtime"))[0]["type"] == "websocket.close"


def test_an_engine_without_a_key_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    with pytest.raises(RuntimeError, match="VLLM_API_KEY"):
        EngineKey(_app)
