"""The control API as one Starlette application."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from pilotlight.activator.values import Authenticator
from pilotlight.platform.api.errors import HttpError, answer
from pilotlight.platform.api.metrics import exposition
from pilotlight.platform.api.openapi import described, document
from pilotlight.platform.api.operations import PREFIX, authenticate, routes
from pilotlight.platform.api.page import POLICY, page
from pilotlight.platform.api.registry_table import REGISTRY, REGISTRY_PATH
from pilotlight.platform.api.services import Services
from pilotlight.platform.api.table import operations
from pilotlight.platform.control.errors import ForbiddenError, PlatformError

_HEADERS = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}


def make_app(
    services: Services,
    authenticator: Authenticator,
    registries: Sequence[CollectorRegistry],
    ready: Callable[[], str],
    models: Sequence[BaseRoute] = (),
) -> Starlette:
    """`ready` says what is missing, empty when nothing is; `models` are the registry's routes."""
    table = operations(services)
    whole = document([*map(described, table), *REGISTRY])
    html = page(whole)

    async def console(_: Request) -> Response:
        return HTMLResponse(html, headers={"content-security-policy": POLICY, **_HEADERS})

    async def openapi(_: Request) -> Response:
        return JSONResponse(whole, headers=_HEADERS)

    async def healthy(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readiness(_: Request) -> Response:
        missing = ready()
        return PlainTextResponse(f"{missing or 'ready'}\n", 503 if missing else 200)

    async def metrics(request: Request) -> Response:
        try:
            if not authenticate(request, authenticator).admin:
                raise ForbiddenError("/metrics names every function, so it needs an admin key")
        except PlatformError as error:
            return answer(error)
        return Response(exposition(registries), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[
            Route("/", console),
            Route(f"{PREFIX}/openapi.json", openapi),
            Route("/healthz", healthy),
            Route("/readyz", readiness),
            Route("/metrics", metrics),
            *routes(table, authenticator),
            Mount(PREFIX + REGISTRY_PATH, routes=list(models)),
        ],
        exception_handlers={HTTPException: _http_error, Exception: _failure},
    )


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        message = f"nothing is served at {request.url.path[:200]}; {PREFIX}/openapi.json lists what is"
        return answer(HttpError(404, "not_found", message))
    if error.status_code == 405:
        message = f"{request.method[:16]} is not allowed at {request.url.path[:200]}"
        return answer(HttpError(405, "method_not_allowed", message, headers=error.headers))
    return answer(HttpError(error.status_code, "error", str(error.detail), headers=error.headers))


async def _failure(_: Request, __: Exception) -> Response:
    """Starlette's outermost middleware logs the exception."""
    return answer(HttpError(500, "internal_error", "the platform failed on this request; its log has the details"))
