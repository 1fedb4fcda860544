"""A promised latency beside what is learned and measured of it, by requests in flight."""

from __future__ import annotations

from dataclasses import dataclass

from pilotlight.recommender.curve import Curve, Estimate

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

    def within(self, most: float, *, certain: bool, scale: float = 1.0) -> float:
        """Requests in flight that hold the bound with `HEADROOM`, by the curve times `scale`. pre: as of `at`."""
        assert self.curve is not None
        aim = HEADROOM * self.seconds / scale
        return self.curve.within(aim, most * self.unit, certain=certain) / self.unit


def milliseconds(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{1000 * seconds:.0f} ms"


def interval(estimate: Estimate) -> str:
    return f"{1000 * estimate.low:.0f} to {milliseconds(estimate.high)}"
