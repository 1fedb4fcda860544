"""One table of operations makes both the routes and the OpenAPI document: what is served is what is documented."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from pilotlight.activator.values import Authenticator, Caller, FunctionId
from pilotlight.platform.api.errors import HttpError, answer, unauthorized
from pilotlight.platform.api.shapes import NoQuery
from pilotlight.platform.control.errors import ForbiddenError, PlatformError
from pilotlight.platform.database.connection import DatabaseError

PREFIX = "/api/v1alpha1"
BODY_SECONDS = 30.0
SMALL_BODY = 64 * 2**10
AT_ONCE = 16
"""Operations that are worked on at once: a slow model store must leave the control loop threads of its own."""

log = structlog.get_logger(__name__)
Query = TypeVar("Query", bound=BaseModel)


@dataclass(frozen=True)
class Call(Generic[Query]):
    """One authenticated request with its checked parameters."""

    caller: Caller
    request: Request
    query: Query
    body: bytes

    @property
    def function(self) -> FunctionId:
        return FunctionId(self.request.path_params["namespace"], self.request.path_params["name"])


@dataclass(frozen=True)
class Operation:
    """One row of the table."""

    method: str
    path: str
    handler: Callable[..., Awaitable[BaseModel | Response | None]]
    summary: str
    query: type[BaseModel] = NoQuery
    body: type[BaseModel] | None = None
    answer: type[BaseModel] | None = None
    """None: no content, or the media type says it."""
    admin: bool = False
    media: str = "application/json"
    body_media: tuple[str, ...] = ("application/json",)
    body_bytes: int = 0
    """Largest body; 0: none is taken."""


def routes(operations: Sequence[Operation], authenticator: Authenticator) -> list[Route]:
    """Starlette's routes of the table, authenticated."""
    places = asyncio.Semaphore(AT_ONCE)
    return [
        Route(PREFIX + operation.path, _endpoint(operation, authenticator, places), methods=[operation.method])
        for operation in operations
    ]


def _endpoint(
    operation: Operation, authenticator: Authenticator, places: asyncio.Semaphore
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            return await _serve(operation, authenticator, places, request)
        except PlatformError as error:
            return answer(error)
        except ClientDisconnect:
            return Response(status_code=499)
        except DatabaseError as error:
            log.exception("database failed", path=request.url.path)
            return answer(HttpError(503, "unavailable", str(error)))

    return endpoint


async def _serve(
    operation: Operation, authenticator: Authenticator, places: asyncio.Semaphore, request: Request
) -> Response:
    caller = authenticate(request, authenticator)
    if operation.admin and not caller.admin:
        raise ForbiddenError(f"{operation.method} {operation.path} needs an admin key")
    query = _query(operation.query, request)
    body = await _body(request, operation.body_bytes)
    async with places:
        result = await operation.handler(Call(caller, request, query, body))
    if isinstance(result, Response):
        return result
    if result is None:
        return Response(status_code=204)
    return Response(result.model_dump_json(), media_type="application/json")


def authenticate(request: Request, authenticator: Authenticator) -> Caller:
    """Raises HttpError 401."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    caller = authenticator.authenticate(secret.strip()) if scheme.lower() == "bearer" and secret.strip() else None
    if caller is None:
        raise unauthorized(bool(scheme))
    return caller


def parse(shape: type[Query], data: bytes) -> Query:
    """A JSON body. Raises HttpError 400 with every problem."""
    try:
        return shape.model_validate_json(data)
    except ValidationError as error:
        raise HttpError(400, "invalid_body", "the body is not as expected", _problems(error)) from None


def _query(shape: type[BaseModel], request: Request) -> BaseModel:
    pairs = request.query_params.multi_items()
    values = dict(pairs)
    if len(values) != len(pairs):
        raise HttpError(400, "invalid_query", "a query parameter is there twice")
    try:
        return shape.model_validate(values)
    except ValidationError as error:
        known = ", ".join(shape.model_fields) or "none"
        message = f"a query parameter is not as expected; known are: {known}"
        raise HttpError(400, "invalid_query", message, _problems(error)) from None


def _problems(error: ValidationError) -> list[str]:
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return [f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg']}" for item in found[:20]]


async def _body(request: Request, limit: int) -> bytes:
    """Bounded in size and time."""
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                data += chunk
                if len(data) > limit:
                    raise HttpError(
                        413,
                        "request_too_large",
                        f"the body is larger than {limit} bytes",
                        headers={"connection": "close"},
                    )
    except TimeoutError:
        raise HttpError(408, "request_timeout", f"the body did not arrive within {BODY_SECONDS:.0f} s") from None
    return bytes(data)
