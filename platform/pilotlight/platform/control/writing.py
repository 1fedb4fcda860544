"""Writing down what happened without waiting for a database that is away: nothing is lost, and the loop goes on."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import structlog

from pilotlight.activator.values import Clock
from pilotlight.platform.database.connection import DatabaseError

RETRY_SECONDS = 1.0
RETRY_MOST_SECONDS = 15.0
"""A database that does not even refuse costs a round its connect timeout, so it is asked ever more rarely."""
KEPT = 100_000
"""Writes that wait at most: hours of a large cluster. Of more the oldest are dropped, and that is said."""

log = structlog.get_logger(__name__)


class Writer:
    """Writes in the order in which they came."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._failures = 0
        self._retry_at = 0.0

    @property
    def waiting(self) -> int:
        """Writes that the database has not taken yet."""
        return len(self._waiting)

    async def write(self, what: Callable[..., Any], *arguments: Any) -> None:
        """Now, or as soon as the database takes it."""
        self._waiting.append((what, arguments))
        if len(self._waiting) > KEPT:
            self._waiting.popleft()
            log.error("too much waits for the database; the oldest write is dropped", kept=KEPT)
        await self.flush()

    async def flush(self) -> None:
        """All that waits, unless the last try was a moment ago."""
        while self._waiting and self._clock.monotonic() >= self._retry_at:
            what, arguments = self._waiting[0]
            try:
                await asyncio.to_thread(what, *arguments)
            except DatabaseError as error:
                if not error.refused:
                    self._failed(error)
                    return
                log.error("database refuses a write; it is dropped", error=str(error))
            self._waiting.popleft()
            if self._failures:
                log.info("database is back", waiting=len(self._waiting))
            self._failures = 0

    def _failed(self, error: DatabaseError) -> None:
        if not self._failures:
            log.error("database is away; what happens is written down later", error=str(error))
        self._failures += 1
        pause = min(RETRY_MOST_SECONDS, RETRY_SECONDS * 2.0 ** min(self._failures - 1, 6))
        self._retry_at = self._clock.monotonic() + pause
