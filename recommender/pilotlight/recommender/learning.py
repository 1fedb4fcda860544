"""From what an engine counts to what is learned of it: two looks at its counters are one observation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from pilotlight.recommender.curve import Point
from pilotlight.recommender.fitting import fit
from pilotlight.recommender.performance import ITL_NOISE, TTFT_NOISE, Observation, Performance, observe

LONGEST_SECONDS = 60.0
"""Two looks that are farther apart say nothing: the load was not the same all the while."""
LEAST_LOOKS = 2
"""Of a window that found requests in the engine; fewer do not tell how many were together."""
LEAST_GAPS = 20
"""Times between tokens, for a mean of them."""
LEAST_PROMPTS = 1


@dataclass(frozen=True)
class Counters:
    """What one engine has counted since its start; anything but finite numbers counts as not told."""

    at: float
    """Seconds, of a clock that does not go back."""
    looks: float
    """Looks at the engine that found requests in it, taken at even distances."""
    in_flight: float
    """Requests found in all of these looks together."""
    prompts: float | None = None
    """Prompts that were computed."""
    prompt_tokens: float | None = None
    first_token_seconds: float | None = None
    """Times to first token, all together."""
    gaps: float | None = None
    """Times between two tokens."""
    gap_seconds: float | None = None


def window(before: Counters, after: Counters) -> Observation | None:
    """What happened between two looks at one engine; None: too little, or nothing that can be read.

    A counter that has fallen means that the engine was started anew; then nothing of the window is known.
    """
    looks, in_flight = _grown(before.looks, after.looks), _grown(before.in_flight, after.in_flight)
    if _restarted(before, after) or not 0 < after.at - before.at <= LONGEST_SECONDS:
        return None
    if not looks or not in_flight or looks < LEAST_LOOKS:
        return None
    prompts = _grown(before.prompts, after.prompts)
    prompt = _mean(_grown(before.prompt_tokens, after.prompt_tokens), prompts, LEAST_PROMPTS)
    ttft = _mean(_grown(before.first_token_seconds, after.first_token_seconds), prompts, LEAST_PROMPTS)
    itl = _mean(_grown(before.gap_seconds, after.gap_seconds), _grown(before.gaps, after.gaps), LEAST_GAPS)
    if itl is None and (ttft is None or prompt is None):
        return None
    return Observation(in_flight / looks, prompt or 0.0, itl, ttft if prompt else None)


def pooled(observations: Sequence[Observation]) -> Observation:
    """Of several replicas of one revision in one round; at least one."""
    return Observation(
        fmean(seen.batch for seen in observations),
        fmean([seen.prompt for seen in observations if seen.prompt > 0] or [0.0]),
        _known([seen.itl for seen in observations]),
        _known([seen.ttft for seen in observations]),
    )


def learned(performance: Performance | None, seen: Observation) -> Performance | None:
    """After one more observation; without any before, one that has both latencies begins, without a prior."""
    if performance is not None:
        return observe(performance, seen)
    itl = Point(seen.batch, seen.itl or 0.0)
    ttft = Point(seen.prompt * seen.batch, seen.ttft or 0.0)
    if not (itl.usable and ttft.usable):
        return None
    return Performance(fit([itl], noise=ITL_NOISE), fit([ttft], noise=TTFT_NOISE), answer=1.0)


def _grown(before: float | None, after: float | None) -> float | None:
    """None: one of the two is not known."""
    if before is None or after is None or not (math.isfinite(before) and math.isfinite(after)):
        return None
    return after - before


def _mean(total: float | None, count: float | None, least: int) -> float | None:
    """None: not known, too few, or nothing that a latency or a length can be."""
    if total is None or count is None or count < least or total <= 0:
        return None
    return total / count


def _restarted(before: Counters, after: Counters) -> bool:
    grown = (_grown(value, getattr(after, name)) for name, value in vars(before).items())
    return any(each is not None and each < 0 for each in grown)


def _known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
