"""A promised latency beside what is learned and measured of it, by requests in flight."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pilotlight.recommender.curve import Curve, End, Estimate
from pilotlight.recommender.performance import Observation, Performance
from pilotlight.recommender.workload import Slo

HEADROOM = 0.9
"""Of a bound, what a cap aims at: single requests scatter around the mean."""


@dataclass(frozen=True)
class Bound:
    """One latency of a revision."""

    name: str
    seconds: float
    """What is promised."""
    curve: Curve | None
    """None: nothing is learned."""
    unit: float
    """The curve's load of one request in flight."""
    measured: float | None
    """Seconds; None: not this time."""
    measured_unit: float = 1.0
    """The curve's load of one request of those that were measured."""

    @property
    def broken(self) -> bool:
        return self.measured is not None and self.measured > self.seconds

    @property
    def promise(self) -> str:
        return f"{milliseconds(self.seconds)} are promised"

    def at(self, load: float) -> Estimate:
        """pre: there is a curve."""
        assert self.curve is not None
        return self.curve.at(load * self.unit)

    def surely_breaks(self, load: float) -> bool:
        """Whether even the lower end of what is learned is above the promise."""
        return self.curve is not None and self.at(load).low > self.seconds

    def within(self, most: int, end: End, scale: float = 1.0) -> int:
        """Requests in flight that hold the bound with `HEADROOM`, by one end of the curve, scaled. pre: as of `at`."""
        assert self.curve is not None
        return self.curve.within(HEADROOM * self.seconds / scale, most, end, self.unit)


def bounds_of(slo: Slo, known: Performance | None, prompt: float, seen: Observation | None = None) -> Iterator[Bound]:
    """Both of those that are promised.

    Args:
        slo: The promises.
        known: What is learned; None: nothing.
        prompt: Tokens of a usual one, which the time to the first token depends on; 0: unknown.
        seen: What was just measured; None: nothing.
    """
    if slo.itl is not None:
        yield Bound("ITL", slo.itl, known.itl if known else None, 1.0, seen.itl if seen else None)
    if slo.ttft is not None:
        curve = known.ttft if known and prompt else None
        measured, unit = (seen.ttft, seen.prompt) if seen else (None, 0.0)
        yield Bound("TTFT", slo.ttft, curve, prompt or 1.0, measured, unit or prompt or 1.0)


def milliseconds(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{1000 * seconds:.0f} ms"


def interval(estimate: Estimate) -> str:
    return f"{1000 * estimate.low:.0f} to {milliseconds(estimate.high)}"
