"""How long requests are, as quantiles, and how many of them fit into a pool of blocks at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, pvariance

from pilotlight.recommender.cache import Pool

TAIL = 0.999
"""Share of requests that a context is made for."""
ANSWER_SHARE = 0.99
"""Share of answers that a default `max_tokens` does not cut off."""
CONTEXT_STEP = 64
"""Tokens: contexts are multiples of it."""
_SAMPLES = 200
_TAIL = 2.326  # standard deviations: 99 of 100 draws stay below


def whole_context(tokens: float) -> int:
    """The shortest context that holds a request of so many tokens."""
    return CONTEXT_STEP * max(1, math.ceil(tokens / CONTEXT_STEP))


@dataclass(frozen=True)
class Lengths:
    """Tokens of whole requests, prompt and answer together: (share of requests, at most so many tokens), rising.

    Between two quantiles lengths are taken as spread evenly, below the first and above the last as equal to it.
    """

    quantiles: tuple[tuple[float, int], ...]

    def __post_init__(self) -> None:
        shares, tokens = [share for share, _ in self.quantiles], [count for _, count in self.quantiles]
        if not tokens or sorted(shares) != shares or sorted(tokens) != tokens or tokens[0] < 1:
            raise ValueError(f"quantiles must rise and begin at one token or more, but are {self.quantiles}")
        if not 0.0 <= shares[0] <= shares[-1] <= 1.0:
            raise ValueError(f"shares of requests are between 0 and 1, but are {shares}")

    @property
    def distributed(self) -> bool:
        """Whether more than one length is known."""
        return len(self.quantiles) > 1

    @cached_property
    def mean(self) -> float:
        """Tokens."""
        return fmean(self.at((index + 0.5) / _SAMPLES) for index in range(_SAMPLES))

    def plus(self, other: Lengths) -> Lengths:
        """Of both together, where the longest of one go with the longest of the other: no smaller tail is possible."""
        shares = sorted({share for lengths in (self, other) for share, _ in lengths.quantiles})
        return Lengths(tuple((share, math.ceil(self.at(share) + other.at(share))) for share in shares))

    def at(self, share: float) -> float:
        """Tokens that this share of requests does not exceed."""
        before = self.quantiles[0]
        for after in self.quantiles:
            if share <= after[0]:
                width = after[0] - before[0]
                return before[1] + (after[1] - before[1]) * ((share - before[0]) / width if width else 1.0)
            before = after
        return float(before[1])

    def samples(self, context: int) -> Iterator[int]:
        """Lengths in equal shares, none longer than `context`."""
        for index in range(_SAMPLES):
            yield max(1, min(context, math.ceil(self.at((index + 0.5) / _SAMPLES))))


def needed_bytes(pool: Pool, count: int, lengths: Lengths, context: int) -> int:
    """The least bytes in which so many requests at once fit, 99 times of 100, and the longest one always."""
    if not pool.groups:
        return 0
    mean, spread = _held(pool, lengths, context)
    blocks = math.ceil(count * mean + spread * math.sqrt(count)) + 1
    return max(pool.request_bytes(context), blocks * pool.block_bytes)


def sequences(pool: Pool, size: int, lengths: Lengths, context: int) -> int:
    """Requests at once so that 99 times of 100 all their blocks fit into `size` bytes.

    Every request counts with all the tokens it will have in the end, and their sum as normally distributed:
    n * mean + 2.326 * sqrt(n) * deviation <= blocks, one block kept by the engine. At least 1 where the longest fits.
    """
    usable = pool.blocks(size) - 1
    if not pool.groups or usable <= 0:
        return 0
    mean, spread = _held(pool, lengths, context)
    root = (math.sqrt(spread**2 + 4 * mean * usable) - spread) / (2 * mean)
    fits_one = pool.request_blocks(context) <= usable
    return max(int(fits_one), int(root**2 + 1e-9))


def _held(pool: Pool, lengths: Lengths, context: int) -> tuple[float, float]:
    """Blocks of one request: the mean, and the part of its deviation that 99 of 100 draws stay below."""
    held = [pool.request_blocks(tokens) for tokens in lengths.samples(context)]
    return fmean(held), _TAIL * math.sqrt(pvariance(held))
