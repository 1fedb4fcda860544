"""What an activator's ports answer: functions itself, the control API by the leader; probes and metrics."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from pilotlight.activator.traffic import normal
from pilotlight.platform.dispatch import App, Receive, Scope, Send, is_hot

CLOSE = (b"connection", b"close")


def outside(activator: App, leader: App, serves_host: Callable[[str], bool], leaving: Callable[[], bool]) -> App:
    """Requests of functions, by path or by host, are the activator's; all else is the leader's.

    `leaving`: whether connections are to end with their answers; the activator sees to its own.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (is_hot(scope["path"]) or serves_host(_host(scope))):
            await activator(scope, receive, send)
        else:
            await leader(scope, receive, _closing(send) if leaving() else send)

    return app


def redirecting(app: App, hosts: Callable[[], frozenset[str]]) -> App:
    """For plain HTTP: requests to `hosts` are sent to the same address with HTTPS, others go on.

    Not what a load balancer has taken TLS from: its clients have HTTPS already.
    """

    async def redirects(scope: Scope, receive: Receive, send: Send) -> None:
        names = hosts()
        if names and scope["type"] == "http" and normal(_host(scope)) in names and not _had_tls(scope):
            query = scope["query_string"].decode("latin-1")
            path = scope["raw_path"].decode("latin-1") + (f"?{query}" if query else "")
            await RedirectResponse(f"https://{normal(_host(scope))}{path}", 308)(scope, receive, send)
        else:
            await app(scope, receive, send)

    return redirects


def inside(registry: CollectorRegistry, missing: Callable[[], str]) -> App:
    """`/healthz`, `/readyz` and `/metrics`; `missing`: why no request should come here, empty when they may."""

    async def healthy(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def ready(_: Request) -> Response:
        reason = missing()
        return PlainTextResponse(f"{reason or 'ready'}\n", 503 if reason else 200)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/healthz", healthy), Route("/readyz", ready), Route("/metrics", metrics)])


def _host(scope: Scope) -> str:
    return _header(scope, b"host")


def _had_tls(scope: Scope) -> bool:
    return _header(scope, b"x-forwarded-proto").lower() == "https"


def _header(scope: Scope, wanted: bytes) -> str:
    found: bytes = next((value for name, value in scope["headers"] if name == wanted), b"")
    return found.decode("latin-1")


def _closing(send: Send) -> Send:
    async def closing(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), CLOSE]}
        await send(message)

    return closing
