"""The leader's side of the link as an ASGI application: reports, and the control API behind the same port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from pilotlight.activator.values import FunctionId
from pilotlight.platform.dispatch import App, Receive, Scope, Send
from pilotlight.platform.link.hub import Hub
from pilotlight.platform.link.wire import REPORT_BYTES, REPORT_PATH, Report, WireError, decode_report, encode_answer

RETRY_SECONDS = 1
"""Another process leads within so long, most often."""
_BESIDE = 256 * 1024
"""Reports from this size are parsed beside the event loop: 1 MiB takes 70 ms."""

Wake = Callable[[FunctionId], None]
LostReplica = Callable[[FunctionId, str, str], None]


def link_app(
    hub: Hub,
    wake: Wake,
    lost: LostReplica,
    *,
    leader: Callable[[], str],
    me: str,
    api: App | None = None,
) -> App:
    """`leader` names the process that leads, empty when nobody knows; this one is `me`.

    Where another leads, everything is answered with 503, and the connection is closed: the next one finds the leader.
    The callbacks are called in the event loop, after the hub knows the report.
    """

    async def report(request: Request) -> Response:
        try:
            told = await _read(request)
        except WireError as error:
            return JSONResponse({"error": str(error)}, 400)
        except ClientDisconnect:
            return Response(status_code=400)
        answer = hub.take(told)
        _pass_on(told, wake, lost)
        return Response(encode_answer(answer), media_type="application/json")

    routes: list[BaseRoute] = [Route(REPORT_PATH, report, methods=["POST"])]
    if api is not None:
        routes.append(Mount("", app=api))
    leading = Starlette(routes=routes)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        other = leader()
        serves = leading if scope["type"] != "http" or other == me else _elsewhere(other)
        await serves(scope, receive, send)

    return app


async def _read(request: Request) -> Report:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > REPORT_BYTES:
            raise WireError(f"a report of more than {REPORT_BYTES} bytes")
    data = bytes(body)
    return decode_report(data) if len(data) < _BESIDE else await asyncio.to_thread(decode_report, data)


def _pass_on(report: Report, wake: Wake, lost: LostReplica) -> None:
    for loss in report.lost:
        lost(loss.function, loss.replica, loss.reason)
    for function in report.woken:
        wake(function)


def _elsewhere(leader: str) -> Response:
    return JSONResponse(
        {"leader": leader}, 503, {"retry-after": str(RETRY_SECONDS), "connection": "close", "cache-control": "no-store"}
    )
