"""One task, woken by its client, by us, or by a real cancellation; each in every order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pilotlight.activator.parking import ClientGoneError, Message, Parking, Watch


class Client:
    """An ASGI `receive` that a test speaks through."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self.waiting = 0
        self.asked = asyncio.Event()

    async def receive(self) -> Message:
        self.waiting += 1
        self.asked.set()
        try:
            return await self._messages.get()
        finally:
            self.waiting -= 1

    def say(self, kind: str) -> None:
        self._messages.put_nowait({"type": kind})


def _cancelling() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


async def _parked(parking: Parking, client: Client) -> asyncio.Task[int]:
    async def park() -> int:
        await parking.park(client.receive)
        return _cancelling()

    task = asyncio.create_task(park())
    await client.asked.wait()
    return task


async def test_a_poke_ends_the_wait_and_leaves_no_cancellation_behind() -> None:
    parking, client = Parking(), Client()
    task = await _parked(parking, client)
    parking.poke()
    parking.poke()
    assert await task == 0


async def test_a_poke_that_came_before_is_not_lost() -> None:
    parking, client = Parking(), Client()
    parking.poke()
    await parking.park(client.receive)
    assert client.waiting == 0


async def test_what_a_client_still_sends_is_no_reason_to_wake() -> None:
    parking, client = Parking(), Client()
    task = await _parked(parking, client)
    client.asked.clear()
    client.say("http.request")
    async with asyncio.timeout(30):
        await client.asked.wait()  # it listens again
    assert not task.done()
    parking.poke()
    await task


async def test_a_client_that_leaves_ends_the_wait() -> None:
    parking, client = Parking(), Client()
    task = await _parked(parking, client)
    client.say("http.disconnect")
    with pytest.raises(ClientGoneError):
        await task


@pytest.mark.parametrize("order", ["leave first", "poke first"])
async def test_a_poke_and_a_leaving_client_at_once_are_one_of_the_two(order: str) -> None:
    parking, client = Parking(), Client()
    task = await _parked(parking, client)
    steps: list[Any] = [lambda: client.say("http.disconnect"), parking.poke]
    for step in steps if order == "leave first" else reversed(steps):
        step()
    try:
        assert await task == 0
    except ClientGoneError:
        assert not task.cancelled()


async def test_a_real_cancellation_passes_through_even_beside_a_poke() -> None:
    for poked in (False, True):
        parking, client = Parking(), Client()
        task = await _parked(parking, client)
        if poked:
            parking.poke()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def _watching(client: Client, started: asyncio.Event, watches: list[Watch]) -> None:
    async with Watch(client.receive) as watch:
        watches.append(watch)
        started.set()
        await asyncio.Event().wait()


async def _watched(client: Client) -> tuple[asyncio.Task[None], Watch]:
    started, watches = asyncio.Event(), list[Watch]()
    task = asyncio.create_task(_watching(client, started, watches))
    await started.wait()
    return task, watches[0]


async def test_a_watched_block_ends_when_the_client_leaves() -> None:
    client = Client()
    task, _ = await _watched(client)
    client.say("http.request")
    client.say("http.disconnect")
    with pytest.raises(ClientGoneError):
        await task


async def test_a_watched_block_ends_with_the_first_error_it_is_given() -> None:
    task, watch = await _watched(Client())
    watch.interrupt(ValueError("first"))
    watch.interrupt(ValueError("second"))
    with pytest.raises(ValueError, match="first"):
        await task


async def test_a_real_cancellation_of_a_watched_block_passes_through() -> None:
    for interrupted in (False, True):
        task, watch = await _watched(Client())
        if interrupted:
            watch.interrupt(ValueError("first"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_an_interrupt_after_the_block_does_nothing_and_nobody_watches_on() -> None:
    client = Client()
    async with Watch(client.receive) as watch:
        await asyncio.sleep(0)
        assert client.waiting == 1
    watch.interrupt(ValueError("late"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (_cancelling(), client.waiting) == (0, 0)


async def test_an_error_of_the_block_itself_is_its_own() -> None:
    with pytest.raises(KeyError):
        async with Watch(Client().receive):
            raise KeyError("mine")
