"""Reading and following an engine's log."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pilotlight.platform.embedded.logs import CHUNK_BYTES, TAIL_BYTES, follow_log


async def read(path: Path, tail: int) -> bytes:
    return b"".join([data async for data in follow_log(path, tail, lambda: False)])


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        pytest.param(2, b"three\nfour", id="the last ones"),
        pytest.param(100, b"one\ntwo\nthree\nfour", id="more than there are"),
        pytest.param(0, b"", id="none"),
    ],
)
async def test_tail(tmp_path: Path, tail: int, expected: bytes) -> None:
    path = tmp_path / "engine.log"
    path.write_bytes(b"one\ntwo\nthree\nfour")

    assert await read(path, tail) == expected


async def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert await read(tmp_path / "none.log", 10) == b""


async def test_a_huge_log_is_read_back_only_so_far(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    path.write_bytes(b"x\n" * TAIL_BYTES)

    assert len(await read(path, 100_000_000)) == TAIL_BYTES


async def test_following_gives_what_is_added_and_ends_with_the_replica(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    lives = True
    lines = follow_log(path, 10, lambda: lives)
    first = asyncio.ensure_future(anext(lines))
    path.write_bytes(b"one\n")
    assert await first == b"one\n"

    with path.open("ab") as file:
        file.write(b"y" * (CHUNK_BYTES + 5))
    lives = False

    assert b"".join([data async for data in lines]) == b"y" * (CHUNK_BYTES + 5)
