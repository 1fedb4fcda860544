"""The end of a log file, and what is added to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

POLL_SECONDS = 0.25
TAIL_BYTES = 4 * 2**20
"""Most that is read back from the end, whatever the number of lines asked for."""
CHUNK_BYTES = 64 * 2**10


async def follow_log(path: Path, tail: int, goes_on: Callable[[], bool]) -> AsyncIterator[bytes]:
    """The last `tail` lines, then more for as long as `goes_on`; a file that is not there yet is waited for."""
    position = None
    while True:
        last_round = not goes_on()
        if position is None:
            position = await asyncio.to_thread(_start, path, tail)
        while position is not None and (data := await asyncio.to_thread(_read, path, position)):
            position += len(data)
            yield data
        if last_round:
            return
        await asyncio.sleep(POLL_SECONDS)


def _start(path: Path, tail: int) -> int | None:
    """Where the last `tail` lines begin; None: there is no file yet."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        size = file.seek(0, 2)
        begin = max(0, size - TAIL_BYTES)
        file.seek(begin)
        data = file.read(size - begin)
    lines = data.splitlines(keepends=True)
    kept = lines[-tail:] if tail else []
    return size - sum(map(len, kept))


def _read(path: Path, position: int) -> bytes:
    with path.open("rb") as file:
        file.seek(position)
        return file.read(CHUNK_BYTES)
