"""The engine key on every route of vLLM, not only on those that vLLM guards itself.

Its own check covers /v1, /v2 and /inference; /invocations generates text and /tokenize reads prompts without any key.
vLLM loads this class by its public option --middleware, in the engine's process.
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
_BODY = b'{"error":{"message":"this engine answers only to its platform","type":"invalid_request_error","code":401}}'


class EngineKey:
    """ASGI middleware: 401 for whoever does not bear the key. Refuses to run without one."""

    def __init__(self, app: App) -> None:
        key = os.environ.get("VLLM_API_KEY", "")
        if not key:
            raise RuntimeError("the engine key is missing: VLLM_API_KEY is not set")
        self._app, self._expected = app, f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._may_pass(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(_BODY)).encode())]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": _BODY})

    def _may_pass(self, scope: Scope) -> bool:
        if scope.get("method") == "GET" and scope["path"] in OPEN:
            return True
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], self._expected)
