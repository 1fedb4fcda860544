"""What a function's time comes to, and what the same machine would have cost always on.

The prices are examples, in the range of what clouds ask for general-purpose machines in 2025; put your own in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GIB = 2**30
DAY_SECONDS = 86_400.0
MONTH_SECONDS = 30 * DAY_SECONDS
STATES = ("starting", "serving", "idle")
"""What a replica's second is booked as."""


@dataclass(frozen=True)
class Prices:
    """Example prices, dollars."""

    cpu_hour: float = 0.04
    gib_hour: float = 0.005


@dataclass(frozen=True)
class Footprint:
    """What one replica holds while it exists."""

    cpus: float
    memory_bytes: int

    def dollars(self, seconds: float, prices: Prices) -> float:
        hourly = self.cpus * prices.cpu_hour + self.memory_bytes / GIB * prices.gib_hour
        return hourly * seconds / 3600


@dataclass(frozen=True)
class Bill:
    """Seconds that a replica existed, by state, beside the wall time in which they fell."""

    seconds: Mapping[str, float]
    wall_seconds: float

    @property
    def billed_seconds(self) -> float:
        return sum(self.seconds.values())


def bill(usage: Mapping[str, Any], wall_seconds: float) -> Bill:
    """From a row of the ledger's sums (`replica_starting_seconds`, ...)."""
    return Bill({state: float(usage[f"replica_{state}_seconds"]) for state in STATES}, wall_seconds)
