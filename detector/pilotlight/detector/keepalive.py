"""How long an idle function's last replica is worth keeping: learned from how long it was idle before.

Keeping for T seconds costs min(gap, T) replica-seconds in each idle gap, and a cold start in each that is longer. The T
that would have cost least on the gaps seen is kept, within bounds. On real tenants the gain over one T for all is small
(ServeGen's low-rate clients); the price of a cold start decides more than the learning does.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, replace

_STEPS = 4
"""Bins per doubling: T is within a tenth of the best."""
_MEMORY = 100.0
"""Gaps after which an old one counts 1/e: tenants change their habits."""
_LEAST = 8.0
"""Gaps, by weight, from which on they are believed: fewer say less than the usual keep-alive."""


@dataclass(frozen=True)
class Worth:
    """Between what bounds a keep-alive is learned, and what it is weighed against; seconds."""

    low: float = 60.0
    high: float = 1800.0
    usual: float = 300.0
    """Before anything is known."""
    cold: float = 600.0
    """Idle replica-seconds that are worth one cold start less."""

    def __post_init__(self) -> None:
        if not (0 < self.low <= self.usual <= self.high < math.inf and 0 <= self.cold < math.inf):
            raise ValueError(f"0 < low <= usual <= high and 0 <= cold do not hold: {self}")


@dataclass(frozen=True)
class Gaps:
    """One function's idle gaps longer than the lowest keep-alive; shorter ones cost the same whatever is kept."""

    worth: Worth
    weights: tuple[float, ...] = ()
    """Per bin of `edges`, and what is beyond the last; old gaps weigh less."""
    sums: tuple[float, ...] = ()
    """Their seconds, so weighed."""

    @property
    def edges(self) -> tuple[float, ...]:
        """The keep-alives to choose from, in rising order."""
        count = math.ceil(_STEPS * math.log2(self.worth.high / self.worth.low))
        steps = (self.worth.low * 2 ** (step / _STEPS) for step in range(count))
        return (*steps, self.worth.high)


def observe(gaps: Gaps, seconds: float) -> Gaps:
    """After one more idle gap; one that is not finite, or too short to matter, changes nothing."""
    if not gaps.worth.low < seconds < math.inf:
        return gaps
    edges = gaps.edges
    fade = math.exp(-1 / _MEMORY)
    weights = [fade * weight for weight in gaps.weights] or [0.0] * (len(edges) + 1)
    sums = [fade * total for total in gaps.sums] or [0.0] * (len(edges) + 1)
    place = bisect_left(edges, seconds)
    weights[place] += 1
    sums[place] += seconds
    return replace(gaps, weights=tuple(weights), sums=tuple(sums))


def keep_alive(gaps: Gaps) -> float:
    """Seconds to keep the last replica: what would have cost least, within the bounds."""
    weight = sum(gaps.weights)
    if weight < _LEAST:
        return gaps.worth.usual
    best, least = gaps.worth.usual, math.inf
    kept, waited = 0.0, weight
    for place, edge in enumerate(gaps.edges):
        kept += gaps.sums[place]
        waited -= gaps.weights[place]
        if (cost := kept + waited * (edge + gaps.worth.cold)) < least:
            best, least = edge, cost
    return best
