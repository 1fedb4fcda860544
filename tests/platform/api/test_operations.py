"""The table's endpoints: how many are worked on at once, whatever they do."""

from __future__ import annotations

import asyncio

import httpx
from starlette.applications import Starlette

from pilotlight.activator.values import Caller
from pilotlight.platform.api.operations import AT_ONCE, PREFIX, Call, Operation, routes
from pilotlight.platform.api.shapes import NoQuery
from pilotlight.platform.control.errors import RefusedError


class Anyone:
    """Implements the activator's `Authenticator`."""

    def authenticate(self, secret: str) -> Caller | None:  # noqa: ARG002 - everybody is let in
        return Caller("key-1", None, admin=True)


class Slow:
    """A handler that waits to be let go, and then refuses."""

    def __init__(self) -> None:
        self.running = self.most = 0
        self.full, self.go = asyncio.Event(), asyncio.Event()

    async def __call__(self, call: Call[NoQuery]) -> None:  # noqa: ARG002 - a handler's signature
        self.running += 1
        self.most = max(self.most, self.running)
        if self.running == AT_ONCE:
            self.full.set()
        await self.go.wait()
        self.running -= 1
        raise RefusedError("no")


async def test_a_slow_dependency_holds_no_more_than_its_share() -> None:
    handler = Slow()
    table = [Operation("GET", "/slow", handler, "Slow")]
    transport = httpx.ASGITransport(Starlette(routes=routes(table, Anyone())))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        asked = [
            asyncio.create_task(client.get(f"{PREFIX}/slow", headers={"authorization": "Bearer x"}))
            for _ in range(2 * AT_ONCE)
        ]
        async with asyncio.timeout(30):
            await handler.full.wait()
            for _ in range(100):  # time enough for the others, if nothing held them back
                await asyncio.sleep(0)
            handler.go.set()
            answers = await asyncio.gather(*asked)

    assert [answer.status_code for answer in answers] == [422] * 2 * AT_ONCE
    assert handler.most == AT_ONCE
