"""One port, two applications: the activator's hot path without any framework, and the rest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def is_hot(path: str) -> bool:
    """Whether a path is the activator's on every host."""
    return path.startswith(("/v1/", "/f/")) or path in ("/v1", "/f")


def dispatcher(activator: App, control: App) -> App:
    """`/v1/...` and `/f/...` go to the activator, everything else to the control API."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        hot = scope["type"] == "http" and is_hot(scope["path"])
        await (activator if hot else control)(scope, receive, send)

    return app
