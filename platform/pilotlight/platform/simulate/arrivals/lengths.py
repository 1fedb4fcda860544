"""How long prompts and answers are, for arrivals that do not say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from pilotlight.platform.simulate.arrivals.text import rows
from pilotlight.platform.simulate.arrivals.values import Counts
from pilotlight.platform.simulate.errors import TraceRefused

MOST_LENGTHS = 5_000_000


class Lengths(Protocol):
    """Draws the lengths of requests."""

    def draw(self, random: np.random.Generator, count: int, function: str, time: float) -> tuple[Counts, Counts]:
        """Prompt and answer tokens of `count` requests of `function` around `time` (seconds of the trace)."""


@dataclass(frozen=True)
class Same:
    """Every request is of one size."""

    prompt: int = 512
    answer: int = 128

    def draw(self, random: np.random.Generator, count: int, function: str, time: float) -> tuple[Counts, Counts]:
        del random, function, time
        return np.full(count, self.prompt, dtype=np.int64), np.full(count, self.answer, dtype=np.int64)


SAME = Same()


@dataclass(frozen=True)
class Sampled:
    """Pairs of a data set, drawn with replacement: a prompt keeps its answer."""

    prompts: Counts
    answers: Counts

    def draw(self, random: np.random.Generator, count: int, function: str, time: float) -> tuple[Counts, Counts]:
        del function, time
        chosen = random.integers(0, len(self.prompts), count)
        return self.prompts[chosen], self.answers[chosen]


def read_lengths(file: Path) -> Sampled:
    """A CSV in Vidur's form: `num_prefill_tokens,num_decode_tokens,...`. Raises TraceRefused."""
    pairs: list[tuple[int, int]] = []
    for row in rows(file, ("num_prefill_tokens", "num_decode_tokens")):
        if len(pairs) == MOST_LENGTHS:
            raise TraceRefused(file, f"more than {MOST_LENGTHS:,} lengths", row.line)
        pairs.append((row.tokens("num_prefill_tokens"), row.tokens("num_decode_tokens")))
    if not pairs:
        raise TraceRefused(file, "has no lengths")
    both = np.array(pairs, dtype=np.int64)
    return Sampled(both[:, 0], both[:, 1])
