"""How many requests a replica should run at once: the most that keeps the bounds, and no more than brings anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from pilotlight.recommender import roofline
from pilotlight.recommender.curve import Estimate
from pilotlight.recommender.errors import SloUnreachable
from pilotlight.recommender.performance import Performance
from pilotlight.recommender.placing import Placed
from pilotlight.recommender.roofline import Setup
from pilotlight.recommender.workload import Slo

PROMPT_SHARE = 0.95
"""Share of prompts whose time to first token keeps its bound."""
ENOUGH = 0.97
"""Share of the highest throughput from which more requests at once only make each of them slower."""
_FEWER = 0.8  # from one load that is tried to the next

Side = Callable[[Estimate], float]


@dataclass(frozen=True)
class Batch:
    """Requests in flight on one replica."""

    safe: int
    """Keeps the bounds even where latencies are at the upper ends of their intervals; at least 1."""
    likely: int
    """Keeps them at the expected latencies."""
    hopeful: int
    """Keeps them where latencies are at the lower ends."""
    chosen: int
    because: str
    """What keeps `likely` from being more."""
    doubt: str = ""
    """Which bound even a lone request is expected to break, though it may keep it; empty: none."""


@dataclass(frozen=True)
class Load:
    """Requests in flight on one replica, and the latencies they have."""

    performance: Performance
    setup: Setup
    longest: float
    """Tokens of a long prompt, for which the bound of the first token is kept."""

    @property
    def prompt(self) -> float:
        """Tokens of a usual prompt."""
        return self.setup.prompt

    def itl(self, batch: float) -> Estimate:
        return self.performance.itl_at(batch)

    def ttft(self, batch: float) -> Estimate:
        """Of the long prompt among usual ones: what a usual one takes, by the roofline's ratio of the two."""
        usual = self.performance.ttft_at(self.prompt, batch)
        ratio = roofline.ttft(self.setup, self.longest, batch) / roofline.ttft(self.setup, self.prompt, batch)
        return Estimate(usual.value * ratio, usual.low * ratio, usual.high * ratio)

    def throughput(self, batch: float) -> Estimate:
        return self.performance.throughput(self.prompt, batch)


def load_of(placed: Placed, performance: Performance) -> Load:
    """Of these requests, whatever answers the measurements had."""
    longest = min(placed.workload.prompt.at(PROMPT_SHARE), placed.plan.context)
    return Load(replace(performance, answer=placed.setup.answer), placed.setup, longest)


def choose(placed: Placed, load: Load, slo: Slo) -> Batch:
    """Raises `SloUnreachable` where a single request is surely too slow already."""
    doubt = _doubt(placed, load, slo)
    most = max(1, placed.plan.sequences)
    useful = _useful(load, most)
    likely, because = _within(load, slo, useful, _value)
    if because is None:
        because = _memory(placed, most) if useful == most else f"more bring less than {1 - ENOUGH:.0%} of throughput"
    safe, _ = _within(load, slo, useful, _high)
    hopeful, _ = _within(load, slo, useful, _low)
    chosen, _ = _within(load, slo, useful, None)
    return Batch(safe, max(likely, chosen), max(hopeful, chosen), chosen, because, doubt)


def _memory(placed: Placed, most: int) -> str:
    if most >= placed.plan.request.sequences:
        return "that is the most that the engine is asked to run"
    return "the KV cache holds no more at these lengths, 99 times of 100"


def _doubt(placed: Placed, load: Load, slo: Slo) -> str:
    """An expectation alone forbids nothing: only a bound below the interval is out of reach."""
    doubts = []
    for bound, wanted, alone in (("itl", slo.itl, load.itl(1)), ("ttft", slo.ttft, load.ttft(1))):
        if wanted is not None and alone.low > wanted:
            raise SloUnreachable(bound, wanted, alone.value, f"{placed.accelerators} x {placed.accelerator.name}")
        if wanted is not None and alone.value > wanted:
            doubts.append(
                f"{bound}: one request alone is expected to take {alone.value:.3g} s and may take {alone.low:.3g} s,"
                f" but the bound is {wanted:g} s; measure it"
            )
    return "; ".join(doubts)


def _within(load: Load, slo: Slo, most: int, side: Side | None) -> tuple[int, str | None]:
    """The largest number that keeps both bounds, at least 1, and which of them keeps it from being more.

    Without a side: the upper end of what was measured, and else the value: unmeasured, an interval is a factor of two
    either way, and to keep its end would halve every recommendation.
    """
    count, because = most, None
    known = load.performance
    for name, bound, latency, curve in (
        ("ITL", slo.itl, load.itl, known.itl),
        ("TTFT", slo.ttft, load.ttft, known.ttft),
    ):
        end = side or (_high if curve.measured else _value)
        if bound is not None and (held := _largest(count, _keeps(latency, bound, end))) < count:
            count, because = held, f"one more would break the bound of {name}, {bound:g} s"
    return count, because


def _keeps(latency: Callable[[float], Estimate], bound: float, side: Side) -> Callable[[int], bool]:
    return lambda batch: side(latency(batch)) <= bound


def _largest(most: int, fits: Callable[[int], bool]) -> int:
    """Bisection: latencies never fall with the load."""
    if fits(most):
        return most
    low, high = 1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _useful(load: Load, most: int) -> int:
    """The smallest number with nearly the highest throughput."""
    rates = {batch: load.throughput(batch).value for batch in _tried(most)}
    enough = ENOUGH * max(rates.values())
    return min(batch for batch, rate in rates.items() if rate >= enough)


def _tried(most: int) -> Iterator[int]:
    batch = most
    while batch >= 1:
        yield batch
        batch = min(batch - 1, int(batch * _FEWER))


def _value(estimate: Estimate) -> float:
    return estimate.value


def _high(estimate: Estimate) -> float:
    return estimate.high


def _low(estimate: Estimate) -> float:
    return estimate.low
