"""Writing to a client without waiting for it."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

from pilotlight.activator.channel import Channel
from pilotlight.activator.errors import internal
from pilotlight.activator.settings import Settings


class Client:
    """A server's `send`, which waits for room before it writes."""

    def __init__(self) -> None:
        self.room = asyncio.Event()
        self.written = b""

    async def send(self, message: MutableMapping[str, Any]) -> None:
        await self.room.wait()
        self.written += message.get("body", b"")

    async def receive(self) -> MutableMapping[str, Any]:
        raise AssertionError("nobody reads here")

    def channel(self) -> Channel:
        return Channel(self.receive, self.send, "req-1")


async def test_an_offer_is_written_at_once_where_there_is_room() -> None:
    client = Client()
    client.room.set()

    assert client.channel().offer(b": one\n\n")

    assert client.written == b": one\n\n"


async def test_an_offer_to_a_client_that_takes_nothing_is_dropped_whole() -> None:
    client = Client()
    channel = client.channel()

    assert not channel.offer(b": one\n\n")

    client.room.set()
    await channel.write(b": two\n\n")
    assert client.written == b": two\n\n"


async def test_an_offer_to_a_broken_connection_is_its_own_tasks_business() -> None:
    async def closed(_: MutableMapping[str, Any]) -> None:
        raise RuntimeError("the handler is closed")

    assert not Channel(Client().receive, closed, "req-1").offer(b": one\n\n")


async def test_a_refusal_that_nobody_takes_ends() -> None:
    client = Client()
    async with asyncio.timeout(30):
        await client.channel().refuse(internal(), (), Settings(stall_seconds=0.01))
    assert client.written == b""
