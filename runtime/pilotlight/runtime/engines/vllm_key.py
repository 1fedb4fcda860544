"""The engine key on every route of vLLM, not only on those that vLLM guards itself.

Its own check covers /v1, /v2 and /inference; /invocations generates text and /tokenize reads prompts without any key.
It also counts the requests in hand: a drain needs to know of those that the engine's metrics do not show yet, and of
those whose last bytes are still on their way. vLLM loads this class by its public option --middleware, in its process.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = frozenset({"/health", "/metrics", "/version"})
"""Routes that answer to anyone: they tell nothing of a request and change nothing."""
IN_FLIGHT = "/pilotlight/in-flight"
"""Answers how many requests are in hand, from their head to the last byte of their answer."""
_BODY = b'{"error":{"message":"this engine answers only to its platform","type":"invalid_request_error","code":401}}'


class EngineKey:
    """ASGI middleware: 401 for whoever does not bear the key. Refuses to run without one."""

    def __init__(self, app: App) -> None:
        key = os.environ.get("VLLM_API_KEY", "")
        if not key:
            raise RuntimeError("the engine key is missing: VLLM_API_KEY is not set")
        self._app, self._expected = app, f"Bearer {key}".encode()
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or (scope.get("method") == "GET" and scope["path"] in OPEN):
            await self._app(scope, receive, send)
        elif self._has_key(scope):
            await self._pass(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _answer(send, 401, _BODY)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == IN_FLIGHT:
            await _answer(send, 200, b'{"in_flight":%d}' % self._in_flight)
            return
        self._in_flight += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._in_flight -= 1

    def _has_key(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], self._expected)


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
