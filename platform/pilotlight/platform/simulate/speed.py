"""How fast a simulated replica answers: the recommender's model, or a straight line."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pilotlight.platform.simulate.errors import SimulationRefused
from pilotlight.recommender.performance import Performance


class Speed(Protocol):
    """Latencies of one replica by its load."""

    def itl(self, batch: int) -> float:
        """Seconds between tokens with `batch` >= 1 requests in flight; above 0."""

    def ttft(self, tokens: int, batch: int) -> float:
        """Seconds to the first token of a prompt of `tokens` with `batch` >= 1 in flight, itself counted."""


@dataclass(frozen=True)
class Linear:
    """Both latencies grow with the load in a straight line.

    The usual values are the roofline's for Llama-3.1-8B at 16 bits on one H100, prompts of 512 and answers of 128
    tokens: 8 ms between tokens alone and 14 ms with 32 requests in flight.
    """

    gap: float = 0.0077
    """Seconds."""
    gap_per_request: float = 0.00021
    first: float = 0.0875
    """Seconds."""
    first_per_token: float = 3e-6
    """Seconds per prompt token and request in flight."""

    def __post_init__(self) -> None:
        if not (self.gap > 0 and min(self.gap_per_request, self.first, self.first_per_token) >= 0):
            raise SimulationRefused("a replica's time between tokens must be above 0, and no time below")

    def itl(self, batch: int) -> float:
        return self.gap + self.gap_per_request * batch

    def ttft(self, tokens: int, batch: int) -> float:
        return self.first + self.first_per_token * tokens * batch


class Tabulated:
    """A recommender's Performance, read from tables: its own curves are too slow to ask per request."""

    def __init__(self, performance: Performance, slots: int, most_tokens: int = 131_072) -> None:
        self._gaps = [performance.itl_at(batch).value for batch in range(1, slots + 1)]
        self._loads = [float(load) for load in np.geomspace(1, slots * most_tokens, 200)]
        self._firsts = [performance.ttft.at(load).value for load in self._loads]

    def itl(self, batch: int) -> float:
        return self._gaps[batch - 1]

    def ttft(self, tokens: int, batch: int) -> float:
        """Between two loads of the table on a straight line; beyond it as at its end."""
        load = float(tokens * batch)
        at = bisect_right(self._loads, load)
        if at == 0 or at == len(self._loads):
            return self._firsts[min(at, len(self._firsts) - 1)]
        low, high = self._loads[at - 1], self._loads[at]
        share = (load - low) / (high - low)
        return self._firsts[at - 1] + share * (self._firsts[at] - self._firsts[at - 1])
