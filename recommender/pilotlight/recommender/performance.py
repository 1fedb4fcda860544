"""How fast a revision answers at a load: a roofline before it ran, its own measurements afterwards."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pilotlight.recommender import online, roofline
from pilotlight.recommender.curve import Curve, Estimate, Point
from pilotlight.recommender.fitting import fit
from pilotlight.recommender.roofline import Setup

ITL_NOISE = 0.035
"""Usual relative scatter of an inter-token latency."""
TTFT_NOISE = 0.1
"""... and of a time to first token, which depends on who else arrives."""


@dataclass(frozen=True)
class Observation:
    """Means over a while in which the load was about the same; None: not measured."""

    batch: float
    """Requests in flight."""
    prompt: float
    """Tokens."""
    itl: float | None = None
    """Seconds."""
    ttft: float | None = None
    """Seconds."""


@dataclass(frozen=True)
class Performance:
    """Latencies of one revision; share it between revisions of the same model, settings and hardware."""

    itl: Curve
    """By requests in flight."""
    ttft: Curve
    """By prompt tokens times requests in flight: g + d * tokens * batch."""
    answer: float
    """Mean tokens."""

    def itl_at(self, batch: float) -> Estimate:
        return self.itl.at(batch)

    def ttft_at(self, tokens: float, batch: float) -> Estimate:
        return self.ttft.at(tokens * batch)

    def throughput(self, tokens: float, batch: float) -> Estimate:
        """Generated tokens per second with `batch` requests in a closed loop, prompts of `tokens` each."""
        gap, first = self.itl_at(batch), self.ttft_at(tokens, batch)

        def rate(gap_seconds: float, first_seconds: float) -> float:
            return batch * self.answer / (first_seconds + max(0.0, self.answer - 1) * gap_seconds)

        return Estimate(rate(gap.value, first.value), rate(gap.high, first.high), rate(gap.low, first.low))


def expected(setup: Setup) -> Performance:
    """Before anything was measured."""
    return fitted((), setup)


def fitted(observations: Iterable[Observation], setup: Setup) -> Performance:
    """From all that was measured, in any order; the roofline fills in what was not."""
    seen = list(observations)
    return Performance(
        fit(_itl_points(seen), lambda batch: roofline.itl(setup, batch), ITL_NOISE),
        fit(_ttft_points(seen), lambda load: _first_token(setup, load), TTFT_NOISE),
        setup.answer,
    )


def _first_token(setup: Setup, load: float) -> float:
    """The prior of a time to first token, by prompt tokens times requests in flight: at the usual prompt."""
    return roofline.ttft(setup, setup.prompt, load / setup.prompt)


def observe(performance: Performance, observation: Observation) -> Performance:
    """After one more observation; outliers count little, a lasting change is followed: `online.observe`."""
    itl, ttft = performance.itl, performance.ttft
    for point in _itl_points([observation]):
        itl = online.observe(itl, point)
    for point in _ttft_points([observation]):
        ttft = online.observe(ttft, point)
    return replace(performance, itl=itl, ttft=ttft)


def moved(performance: Performance) -> Performance:
    """After a change of the machine that its last observations have shown: `online.moved`."""
    return replace(performance, itl=online.moved(performance.itl), ttft=online.moved(performance.ttft))


def _itl_points(observations: Iterable[Observation]) -> list[Point]:
    return [Point(seen.batch, seen.itl) for seen in observations if seen.itl is not None]


def _ttft_points(observations: Iterable[Observation]) -> list[Point]:
    return [Point(seen.prompt * seen.batch, seen.ttft) for seen in observations if seen.ttft is not None]
