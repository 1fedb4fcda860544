"""A database that is away: when to try again, and saying so once."""

from __future__ import annotations

import structlog

from pilotlight.activator.values import Clock

FIRST_SECONDS = 0.5
LONGEST_SECONDS = 5.0
"""Between two tries."""

log = structlog.get_logger(__name__)


class Outage:
    """None at first; each failure doubles the wait before the next try."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: float | None = None
        self._wait = FIRST_SECONDS
        self._next = 0.0

    def waits(self) -> bool:
        """Whether the next try is still to come."""
        return self._since is not None and self._clock.monotonic() < self._next

    def failed(self, error: Exception) -> None:
        now = self._clock.monotonic()
        if self._since is None:
            self._since = now
            log.error("ledger cannot reach its database; the journal keeps what comes", error=str(error))
        self._next = now + self._wait
        self._wait = min(2 * self._wait, LONGEST_SECONDS)

    def over(self, left: int) -> None:
        """A try succeeded; `left` bytes came meanwhile."""
        if self._since is not None:
            log.info("ledger has its database again", seconds=round(self._clock.monotonic() - self._since), bytes=left)
        self._since = None
        self._wait = FIRST_SECONDS
