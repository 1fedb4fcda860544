"""Quantiles of token counts in bounded memory: how long a function's prompts and answers are.

A DDSketch (Masson, Rim, Lee, "DDSketch", VLDB 2019): a count v > 0 falls into bucket i = ceil(log(v) / log(g)) with
g = (1 + a) / (1 - a); a bucket answers 2 * g^i / (g + 1), which is within the share `a` of everything in it.
Sketches add up, so that several writers may keep one each; scaled down, old requests count less than new ones.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

ACCURACY = 0.01
"""Largest relative error of a quantile."""
LARGEST = 2**31
"""Longer ones count as long as this; so no sketch has more than 1,076 buckets."""
_GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
_LAST = math.ceil(math.log(LARGEST) / math.log(_GAMMA))


@dataclass(frozen=True)
class Sketch:
    """Counts by bucket; those of requests that were scaled down are fractions."""

    buckets: Mapping[int, float] = field(default_factory=dict)
    zeros: float = 0.0

    @property
    def count(self) -> float:
        """Requests in it, by weight."""
        return self.zeros + math.fsum(self.buckets.values())

    def plus(self, values: Iterable[int]) -> Sketch:
        """With more token counts; below zero counts as zero."""
        indexes = Counter(_index(value) for value in values)
        return self + Sketch({index: float(n) for index, n in indexes.items() if index >= 0}, float(indexes[-1]))

    def __add__(self, other: Sketch) -> Sketch:
        both = dict(self.buckets)
        for index, weight in other.buckets.items():
            both[index] = both.get(index, 0.0) + weight
        return Sketch(both, self.zeros + other.zeros)

    def times(self, share: float) -> Sketch:
        """The same distribution, weighing `share` of what it did."""
        return Sketch({index: weight * share for index, weight in self.buckets.items()}, self.zeros * share)

    def at(self, share: float) -> float:
        """Tokens that this share (0..1) of requests does not exceed, within `ACCURACY`; 0 where there are none."""
        wanted, below = share * self.count, self.zeros
        if not self.buckets or (wanted <= below and self.zeros):
            return 0.0
        for index in sorted(self.buckets):
            below += self.buckets[index]
            if below >= wanted:
                return _value(index)
        return _value(max(self.buckets))

    def to_json(self) -> dict[str, object]:
        """Plain JSON, at most some 30 kB; `from_json` reads it back."""
        return {"zeros": self.zeros, "buckets": [[index, self.buckets[index]] for index in sorted(self.buckets)]}

    @staticmethod
    def from_json(content: object) -> Sketch:
        """Raises ValueError for anything that `to_json` does not write."""
        if not isinstance(content, Mapping) or content.keys() != {"zeros", "buckets"}:
            raise ValueError("a sketch is an object of zeros and buckets")
        pairs = content["buckets"]
        if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            raise ValueError("a sketch's buckets are a list of pairs")
        buckets = {_checked_index(index): _weight(weight) for index, weight in pairs}
        if len(buckets) != len(pairs):
            raise ValueError("a sketch has a bucket twice")
        return Sketch(buckets, _weight(content["zeros"]))


class Served(NamedTuple):
    """Tokens of one finished request."""

    prompt: int
    answer: int
    asked: int = 0
    """Of the answer at most, where the request said so."""


@dataclass(frozen=True)
class RequestLengths:
    """Of one function: prompts, answers, and whole requests, whose parts are not independent.

    A whole request is as long as it asked to become: an engine refuses `max_tokens` above its context, however short
    the answer would be.
    """

    prompt: Sketch = Sketch()
    answer: Sketch = Sketch()
    total: Sketch = Sketch()

    def plus(self, requests: Iterable[Served], memory: float = math.inf) -> RequestLengths:
        """With more finished requests.

        Args:
            requests: In the order in which they ended.
            memory: Requests after which an old one counts 1/e.
        """
        new = list(requests)
        kept = math.exp(-len(new) / memory)
        return RequestLengths(
            self.prompt.times(kept).plus(each.prompt for each in new),
            self.answer.times(kept).plus(each.answer for each in new),
            self.total.times(kept).plus(each.prompt + max(each.answer, each.asked) for each in new),
        )

    def __add__(self, other: RequestLengths) -> RequestLengths:
        return RequestLengths(self.prompt + other.prompt, self.answer + other.answer, self.total + other.total)


def _index(value: int) -> int:
    """-1: none."""
    return max(0, math.ceil(math.log(min(value, LARGEST)) / math.log(_GAMMA))) if value > 0 else -1


def _value(index: int) -> float:
    return 2 * math.pow(_GAMMA, index) / (_GAMMA + 1)


def _checked_index(index: object) -> int:
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index <= _LAST:
        raise ValueError(f"a sketch's buckets are numbered 0 to {_LAST}, but one is {index!r}")
    return index


def _weight(weight: object) -> float:
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
        raise ValueError(f"a sketch's weights are numbers of 0 or more, but one is {weight!r}")
    return float(weight)
