"""`/api/...` asked at an activator is answered by the leader, byte for byte and as it comes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from yarl import URL

from pilotlight.platform.clock import SystemClock
from pilotlight.platform.link.app import link_app
from pilotlight.platform.link.forward import Forwarder, ForwarderSettings
from pilotlight.platform.link.hub import Hub

if TYPE_CHECKING:
    from tests.platform.link.conftest import Pki, Serving

Eventually = Callable[[Callable[[], bool], str], Awaitable[None]]


class Api:
    """A control API by hand: it tells what it was asked, follows a log, and breaks off."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.followers = 0
        self.app = Starlette(
            routes=[
                Route("/api/v1/echo/{rest:path}", self.echo, methods=["GET", "PUT", "DELETE"]),
                Route("/api/v1/logs", self.logs),
                Route("/api/v1/broken", self.broken),
            ]
        )

    async def echo(self, request: Request) -> Response:
        told = {
            "method": request.method,
            "path": request.scope["raw_path"].decode(),
            "query": request.scope["query_string"].decode(),
            "headers": sorted(request.headers.items()),
            "body": len(await request.body()),
        }
        return JSONResponse(told, 207, {"x-own": "1", "x-hop": "2", "connection": "x-hop", "set-cookie": "a=b"})

    async def logs(self, _: Request) -> Response:
        async def follow() -> AsyncIterator[bytes]:
            self.followers += 1
            try:
                while (line := await self.lines.get()) is not None:
                    yield line
            finally:
                self.followers -= 1

        return StreamingResponse(follow(), media_type="text/event-stream")

    async def broken(self, _: Request) -> Response:
        async def half() -> AsyncIterator[bytes]:
            yield b"half"

        return StreamingResponse(half(), headers={"content-length": "8"})


@asynccontextmanager
async def plainly(app: Any, eventually: Eventually) -> AsyncIterator[str]:
    """The activator's own port, which users speak to."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, ws="none", lifespan="off", log_level="critical", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    await eventually(lambda: server.started, "the server's start")
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


class Stage:
    """A leader with the API, an activator that forwards there, and a user."""

    def __init__(self, url: str, api: Api, user: aiohttp.ClientSession) -> None:
        self.url, self.api, self.user = url, api, user


@asynccontextmanager
async def forwarding(
    pki: Pki, serving: Serving, eventually: Eventually, settings: ForwarderSettings | None = None
) -> AsyncIterator[Stage]:
    api = Api()
    hub = Hub("operator-1", SystemClock(), lambda: 1, lambda _function: 1000)
    app = link_app(hub, print, print, leader=lambda: "operator-1", me="operator-1", api=api.app)
    async with serving(app, pki.server()) as leader, aiohttp.ClientSession() as user:
        forwarder = Forwarder(leader, pki.client(), settings)
        await forwarder.start()
        async with plainly(forwarder, eventually) as url:
            yield Stage(url, api, user)
        await forwarder.close()


@pytest.fixture
async def stage(pki: Pki, serving: Serving, eventually: Eventually) -> AsyncIterator[Stage]:
    async with forwarding(pki, serving, eventually) as staged:
        yield staged


async def test_a_request_arrives_as_it_was_sent_without_what_was_for_one_connection(stage: Stage) -> None:
    headers = {
        "Authorization": "Bearer pl-x",
        "X-Own": "1",
        "Connection": "X-Hop",
        "X-Hop": "2",
        "Host": "pilotlight.example",
    }
    url = URL(f"{stage.url}/api/v1/echo/a%2Fb?limit=1&x=%20", encoded=True)
    async with stage.user.put(url, data=b"x" * 300_000, headers=headers) as response:
        told = await response.json()
        assert response.status == 207
        assert response.headers["X-Own"] == "1"
        assert "X-Hop" not in response.headers
        assert response.headers.getall("Set-Cookie") == ["a=b"]
        assert len(response.headers.getall("Date")) == 1
    assert (told["method"], told["path"], told["query"]) == ("PUT", "/api/v1/echo/a%2Fb", "limit=1&x=%20")
    assert told["body"] == 300_000
    sent = dict(told["headers"])
    assert (sent["authorization"], sent["x-own"], sent["host"]) == ("Bearer pl-x", "1", "pilotlight.example")
    assert "x-hop" not in sent


async def test_a_request_without_a_body_has_none(stage: Stage) -> None:
    async with stage.user.delete(f"{stage.url}/api/v1/echo/x") as response:
        told = await response.json()
    assert told["method"] == "DELETE"
    assert told["body"] == 0
    assert "transfer-encoding" not in dict(told["headers"])


async def test_a_body_of_unknown_length_is_streamed(stage: Stage) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * 1000

    async with stage.user.put(f"{stage.url}/api/v1/echo/x", data=pieces()) as response:
        assert (await response.json())["body"] == 10_000


async def test_a_log_is_followed_line_by_line_and_left_when_its_reader_leaves(
    stage: Stage, eventually: Eventually
) -> None:
    async with stage.user.get(f"{stage.url}/api/v1/logs") as response:
        for line in (b"one\n", b"two\n"):
            stage.api.lines.put_nowait(line)
            assert await response.content.readline() == line
        assert stage.api.followers == 1
    await eventually(lambda: stage.api.followers == 0, "the follower's end at the leader")


async def test_an_answer_that_breaks_off_does_not_look_whole(stage: Stage) -> None:
    async with stage.user.get(f"{stage.url}/api/v1/broken") as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_a_body_beyond_the_bound_is_refused(pki: Pki, serving: Serving, eventually: Eventually) -> None:
    async with forwarding(pki, serving, eventually, ForwarderSettings(body_bytes=1000)) as stage:
        async with stage.user.put(f"{stage.url}/api/v1/echo/x", data=b"x" * 1001) as response:
            assert response.status == 413
            assert (await response.json())["error"]["code"] == "request_too_large"
        async with stage.user.put(f"{stage.url}/api/v1/echo/x", data=b"x" * 1000) as response:
            assert response.status == 207


async def test_without_a_leader_the_caller_is_told_when_to_come_again(pki: Pki, eventually: Eventually) -> None:
    forwarder = Forwarder("https://127.0.0.1:1", pki.client())
    await forwarder.start()
    async with (
        plainly(forwarder, eventually) as url,
        aiohttp.ClientSession() as user,
        user.get(f"{url}/api/v1/functions") as response,
    ):
        assert response.status == 503
        assert int(response.headers["Retry-After"]) >= 1
        assert (await response.json())["error"]["code"] == "unavailable"
    await forwarder.close()
