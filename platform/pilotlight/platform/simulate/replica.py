"""One replica in the simulation: requests share it as in continuous batching.

All requests in flight advance at the same pace, one token each in `itl(batch)` seconds. So a clock that counts tokens
does for all of them: a request ends when it reaches the reading at its admission plus its own tokens, the time to its
first token counted in tokens at the pace of that moment.
"""

from __future__ import annotations

from heapq import heappop, heappush
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilotlight.platform.simulate.site import Site

Running = tuple[float, float, float, int]
"""The clock's reading at its end, when it came, when its first token comes, answer tokens."""


class Replica:
    """Times are seconds of the trace."""

    __slots__ = (
        "busy_seconds",
        "busy_since",
        "clock",
        "draining",
        "due",
        "gap",
        "gone",
        "ready_at",
        "running",
        "since",
        "site",
        "started_at",
    )

    def __init__(self, site: Site, now: float) -> None:
        self.site = site
        self.started_at = now
        self.ready_at: float | None = None
        self.running: list[Running] = []
        """A heap."""
        self.clock = 0.0
        """Tokens that each request has advanced by `since`."""
        self.since = now
        self.gap = 1.0
        """Seconds per token at present."""
        self.due = inf
        """Of the event that stands for the next end."""
        self.busy_since = 0.0
        self.busy_seconds = 0.0
        self.draining = False
        self.gone = False

    def admit(self, now: float, gap: float, first: float, arrived: float, answer: int) -> None:
        """One request more. `gap`: seconds per token from now on; `first`: seconds to its first token."""
        if self.running:
            self.clock += (now - self.since) / self.gap
        else:
            self.busy_since = now
        self.since = now
        self.gap = gap
        heappush(self.running, (self.clock + first / gap + answer - 1, arrived, now + first, answer))

    def next_end(self) -> float:
        """pre: something runs."""
        return self.since + (self.running[0][0] - self.clock) * self.gap

    def end(self, now: float, gap: float) -> Running:
        """The request that ends now; `gap`: seconds per token from now on."""
        ended = heappop(self.running)
        self.clock = ended[0]
        self.since = now
        self.gap = gap
        if not self.running:
            self.busy_seconds += now - self.busy_since
        return ended
