"""Looks at a serving engine once a second, and at its counters every few: what is learned of its speed."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from pilotlight.runtime.spec import EngineCounters
from pilotlight.runtime.wire import WireError

COUNTERS_SECONDS = 3.0
"""Between two readings of the counters, which are a page of text; only while there is work."""


class Counting:
    """Tell it of every look with `looked`."""

    def __init__(self, page: Callable[[], Awaitable[str]], clock: Callable[[], float] = time.monotonic) -> None:
        """`page` gives the engine's metrics, and may raise WireError."""
        self._page, self._clock = page, clock
        self._looks = self._in_flight = 0
        self._read_looks = 0
        self._read_at = clock() - COUNTERS_SECONDS
        self.counters: EngineCounters | None = None

    async def looked(self, running: int | None) -> None:
        """Requests found in the engine at one look, one a second; None: it did not say."""
        if running:
            self._looks += 1
            self._in_flight += running
        if self._looks > self._read_looks and self._clock() - self._read_at >= COUNTERS_SECONDS:
            await self._read()

    async def _read(self) -> None:
        from pilotlight.runtime.metrics import BadMetricsError, scrape  # not part of the cold start

        self._read_at = self._clock()
        try:
            found = scrape(await self._page())
        except (WireError, BadMetricsError):
            return  # the next reading has what was counted meanwhile
        self._read_looks = self._looks
        self.counters = EngineCounters(
            at=self._read_at,
            looks=self._looks,
            in_flight=self._in_flight,
            prompts=found.first_tokens,
            prompt_tokens=found.prompt_tokens,
            first_token_seconds=found.first_token_seconds,
            gaps=found.gaps,
            gap_seconds=found.gap_seconds,
        )
