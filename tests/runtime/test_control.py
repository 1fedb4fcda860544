"""The control socket against peers that do not keep to the rules, and the small HTTP underneath."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotlight.runtime.control import SOCKET_FILE, serve_control, short_path
from pilotlight.runtime.spec import ReplicaState, ReplicaStatus
from pilotlight.runtime.wire import REQUEST_LIMIT, Request, Response, WireError, ask


class _Controlled:
    def __init__(self) -> None:
        self.asked: list[str] = []

    async def status(self) -> ReplicaStatus:
        self.asked.append("status")
        return ReplicaStatus("r", "1", ReplicaState.READY)

    def drain(self) -> None:
        self.asked.append("drain")

    def stop(self) -> None:
        self.asked.append("stop")


async def _talk(folder: Path, data: bytes) -> bytes:
    with short_path(folder) as short:
        reader, writer = await asyncio.open_unix_connection(f"{short}/{SOCKET_FILE}")
    writer.write(data)
    writer.write_eof()
    async with asyncio.timeout(20):
        try:
            answer = await reader.read()
        except ConnectionResetError:
            answer = b""
    writer.close()
    return answer


@pytest.mark.parametrize(
    ("method", "target", "status", "asked"),
    [
        ("GET", "/status", 200, ["status"]),
        ("POST", "/drain", 202, ["drain"]),
        ("POST", "/stop", 202, ["stop"]),
        ("GET", "/drain", 404, []),
        ("POST", "/status", 404, []),
        ("GET", "/../spec.json", 404, []),
    ],
)
async def test_routes(tmp_path: Path, method: str, target: str, status: int, asked: list[str]) -> None:
    controlled = _Controlled()
    server = await serve_control(tmp_path, controlled)
    answer = await _talk(tmp_path, f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    server.close()
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert controlled.asked == asked


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\xff",
        b"GET /status",
        b"GET /status HTTP/1.1\r\n\r\n",
        b"POST /drain HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n" + b"x" * (REQUEST_LIMIT + 1),
        b"GET /status HTTP/1.1\r\nX: " + b"y" * 200_000,
    ],
    ids=["nothing", "no HTTP", "half a line", "no host", "too much body", "too much header"],
)
async def test_nonsense_does_nothing_and_the_next_one_is_served(tmp_path: Path, data: bytes) -> None:
    controlled = _Controlled()
    server = await serve_control(tmp_path, controlled)
    await _talk(tmp_path, data)
    assert controlled.asked == []
    assert (await _talk(tmp_path, b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    server.close()


async def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead, short_path(tmp_path) as short:
        dead.bind(f"{short}/{SOCKET_FILE}")
    server = await serve_control(tmp_path, _Controlled())
    assert (await _talk(tmp_path, b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    server.close()


async def _asked(answer: bytes, limit: int = 100) -> Response:
    """What `ask` makes of a server that says these bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        async with asyncio.timeout(20):
            return await ask(reader, writer, Request("GET", "/"), {}, limit)


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 2\r\n\r\nok", b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"]
)
async def test_an_answer_is_read_however_it_is_framed(framing: bytes) -> None:
    assert await _asked(b"HTTP/1.1 200 OK\r\n" + framing) == Response(200, b"ok")


@pytest.mark.parametrize(
    "answer",
    [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 101],
    ids=["nothing", "no HTTP", "cut off", "too much"],
)
async def test_an_answer_that_is_none_is_an_error(answer: bytes) -> None:
    with pytest.raises(WireError):
        await _asked(answer)


@settings(max_examples=30)
@given(st.binary(max_size=200))
async def test_no_bytes_break_the_client(answer: bytes) -> None:
    with contextlib.suppress(WireError):
        assert isinstance(await _asked(answer), Response)
