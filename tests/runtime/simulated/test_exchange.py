"""Reading a body piece by piece."""

from __future__ import annotations

import pytest

from pilotlight.runtime.simulated.exchange import BODY_LIMIT, DisconnectedError, Exchange, Message
from pilotlight.runtime.simulated.requests import RefusedError


def _exchange(*messages: Message) -> Exchange:
    coming = iter(messages)

    async def receive() -> Message:
        return next(coming)

    async def send(message: Message) -> None:
        pytest.fail(f"nothing was to be sent, but {message['type']} was")

    return Exchange({"headers": [(b"x-request-id", b"one")]}, receive, send)


def _piece(body: bytes, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_pieces_are_joined() -> None:
    assert await _exchange(_piece(b"ab", True), _piece(b"", True), _piece(b"c", False)).body() == b"abc"


async def test_a_body_is_refused_as_soon_as_it_is_too_large() -> None:
    half = bytes(BODY_LIMIT // 2 + 1)
    with pytest.raises(RefusedError, match="larger than") as raised:
        await _exchange(_piece(half, True), _piece(half, True)).body()

    assert raised.value.code == 413


async def test_a_client_that_leaves_within_its_request_is_told_apart() -> None:
    with pytest.raises(DisconnectedError):
        await _exchange(_piece(b"{", True), {"type": "http.disconnect"}).body()


def test_a_header_is_found_or_none() -> None:
    assert _exchange().header(b"x-request-id") == "one"
    assert _exchange().header(b"other") is None
