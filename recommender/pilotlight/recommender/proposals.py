"""What a revision should be set to, by what its replicas and requests have shown; only where that is sure. Pure.

A proposal differs from what is set by `THRESHOLD` or more, even at the end of its 95 % interval that is nearer to it.
Nothing here is applied: a setting of the engine changes by a new revision, and that is the user's to declare.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist

from pilotlight.recommender._bounds import bounds_of, interval
from pilotlight.recommender._kv import SHORTEST_CONTEXT
from pilotlight.recommender.curve import End
from pilotlight.recommender.lengths import TAIL, whole_context
from pilotlight.recommender.performance import Performance
from pilotlight.recommender.sketches import RequestLengths, Sketch
from pilotlight.recommender.workload import Slo

THRESHOLD = 1.25
"""Factor from which a difference is worth a new revision."""
LEAST_MEASURED = 40.0
"""Observations that a batch size is proposed from, by weight: some minutes of work."""
LEAST_REQUESTS = 2000
"""Requests that a length is proposed from: their longest thousandth is two."""
BUSY = 0.7
"""Of the limit, what must have been in flight before a higher one is proposed: nobody else asks for it."""
FARTHEST = 2.0
"""No limit is proposed that is higher by more than this factor: so far the curve was never measured."""
LONGER = 1.25
"""Room of a proposed context above the tail of the requests."""
_TWO_SIDED = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Settings:
    """Of a revision."""

    max_num_seqs: int
    max_model_len: int
    """Tokens."""


@dataclass(frozen=True)
class Evidence:
    """What is known of its replicas and requests."""

    performance: Performance | None = None
    lengths: RequestLengths = field(default_factory=RequestLengths)
    prompt: float = 0.0
    """Mean tokens of the last prompts."""
    busiest: float = 0.0
    """Most requests in flight in one replica that were seen."""


@dataclass(frozen=True)
class Proposal:
    """One setting, as the manifest names it."""

    option: str
    now: int | None
    """None: it is not set."""
    proposed: int
    low: int
    """Of the 95 % interval of what would be best."""
    high: int
    reason: str


def propose(now: Settings, evidence: Evidence, slo: Slo) -> tuple[Proposal, ...]:
    """Every setting that should be another, by name; empty: all are right as far as is known."""
    found = (_context(now, evidence.lengths), _batch(now, evidence, slo))
    return tuple(proposal for proposal in found if proposal is not None)


def _batch(now: Settings, evidence: Evidence, slo: Slo) -> Proposal | None:
    bounds = list(bounds_of(slo, evidence.performance, evidence.prompt))
    if not bounds or any(bound.curve is None or bound.curve.measured < LEAST_MEASURED for bound in bounds):
        return None
    set_to, farthest = now.max_num_seqs, math.floor(now.max_num_seqs * FARTHEST)
    ends: tuple[End, ...] = ("high", "value", "low")
    low, likely, high = (max(1, min(bound.within(farthest, end) for bound in bounds)) for end in ends)
    if any(bound.surely_breaks(1) for bound in bounds):
        return None  # no setting holds the promise
    raised = low > set_to * THRESHOLD and evidence.busiest >= BUSY * set_to
    lowered = high * THRESHOLD < set_to
    if not (raised or lowered):
        return None
    proposed = low if raised else likely
    said = ", ".join(f"{bound.name} at {proposed} in flight is {interval(bound.at(proposed))}" for bound in bounds)
    promised = ", ".join(f"{bound.name}: {bound.promise}" for bound in bounds)
    measured = min(bound.curve.measured for bound in bounds if bound.curve is not None)
    return Proposal(
        "engine.maxNumSeqs", set_to, proposed, low, high, f"{said}; {promised}; from {measured:.0f} observations"
    )


def _context(now: Settings, lengths: RequestLengths) -> Proposal | None:
    """Only shorter: what a longer one would serve was refused, and is in no count."""
    if lengths.total.count < LEAST_REQUESTS:
        return None
    quantiles = _quantile(lengths.total, TAIL)
    low, _, high = (max(SHORTEST_CONTEXT, whole_context(tokens * LONGER)) for tokens in quantiles)
    if high * THRESHOLD >= now.max_model_len:
        return None
    needed = f"{TAIL:.1%} of {lengths.total.count:.0f} requests had at most {quantiles[1]:.0f} tokens"
    reason = f"{needed}, with the answer that they asked for; a shorter context leaves room for more"
    return Proposal("engine.maxModelLen", now.max_model_len, high, low, high, reason)


def _quantile(sketch: Sketch, share: float) -> tuple[float, float, float]:
    """(low, value, high): the ranks of its 95 % interval, by the binomial's normal approximation."""
    reach = _TWO_SIDED * math.sqrt(share * (1 - share) / sketch.count)
    return sketch.at(share - reach), sketch.at(share), sketch.at(min(1.0, share + reach))
