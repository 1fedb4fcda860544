"""The HTTP server of both processes: how it listens and how it ends."""

from __future__ import annotations

import asyncio
import socket

import httpx
import pytest
from starlette.responses import PlainTextResponse

from pilotlight.platform.dispatch import Receive, Scope, Send
from pilotlight.platform.listening import doors, listen, server

HELLO = PlainTextResponse("hello")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_it_serves_on_both_families_through_all_doors(host: str) -> None:
    listener = listen(host, 0)
    runs = server(HELLO)
    task = asyncio.create_task(runs.serve(sockets=doors(listener)))
    address = f"[{host}]" if ":" in host else host

    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://{address}:{listener.getsockname()[1]}/")

    assert answer.text == "hello"
    assert "server" not in answer.headers
    runs.should_exit = True
    await task


def test_a_port_that_is_taken_leaves_nothing_open() -> None:
    with listen("127.0.0.1", 0) as first, pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", first.getsockname()[1])


def test_what_a_child_process_must_not_have_is_not_inherited() -> None:
    with listen("127.0.0.1", 0) as listener:
        others = doors(listener)[1:]
        assert not any(each.get_inheritable() for each in (listener, *others))
        for each in others:
            each.close()


async def test_told_to_end_it_takes_no_more_and_finishes_what_it_has() -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        asked.set()
        await go_on.wait()
        await HELLO(scope, receive, send)

    listener = listen("127.0.0.1", 0)
    address = listener.getsockname()
    runs = server(slow)
    task = asyncio.create_task(runs.serve(sockets=doors(listener)))
    async with httpx.AsyncClient() as client:
        asking = asyncio.create_task(client.get(f"http://127.0.0.1:{address[1]}/"))
        await asked.wait()
        runs.should_exit = True
        while listener.fileno() != -1:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)

        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        go_on.set()
        assert (await asking).text == "hello"
    await task
