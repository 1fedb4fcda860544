"""Requests in the order of their arrival, in batches, so that a trace of any length needs little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

MOST_FUNCTIONS = 100_000


@dataclass(frozen=True)
class Batch:
    """Four columns of one length; times never fall, neither in a batch nor from one to the next."""

    times: Floats
    """Seconds since the trace began."""
    functions: Counts
    """Places in `Arrivals.names`."""
    prompts: Counts
    """Tokens, at least 1."""
    answers: Counts
    """Tokens, at least 1."""

    def __len__(self) -> int:
        return len(self.times)

    def where(self, chosen: NDArray[np.bool_]) -> Batch:
        return Batch(self.times[chosen], self.functions[chosen], self.prompts[chosen], self.answers[chosen])


@dataclass(frozen=True)
class Arrivals:
    """A trace that can be read any number of times, with the same requests each time."""

    read: Callable[[], Iterator[Batch]]
    names: list[str] = field(default_factory=list)
    """Functions by place; a reader that meets them on its way appends them before the batch that has them."""
    classes: dict[str, str] = field(default_factory=dict)
    """SLO class by function, where it is not the usual one."""


def thinned(arrivals: Arrivals, share: float, seed: int) -> Arrivals:
    """Each request is kept with probability `share`, 0 < share <= 1."""

    def read() -> Iterator[Batch]:
        random = np.random.default_rng(seed)
        for batch in arrivals.read():
            yield batch.where(random.random(len(batch)) < share)

    return replace(arrivals, read=read)


def between(arrivals: Arrivals, start: float, end: float) -> Arrivals:
    """The requests from `start` to before `end`, seconds; time then counts from `start`."""

    def read() -> Iterator[Batch]:
        for batch in arrivals.read():
            if len(batch) and batch.times[0] >= end:
                return
            kept = batch.where((batch.times >= start) & (batch.times < end))
            if len(kept):
                yield replace(kept, times=kept.times - start)

    return replace(arrivals, read=read)


def merged(times: list[Floats], functions: list[int], lengths: list[tuple[Counts, Counts]]) -> Batch:
    """One batch of several functions' requests; the three lists are of one length."""
    at = np.concatenate(times)
    order = np.argsort(at, kind="stable")
    owners = np.repeat(np.array(functions, dtype=np.int64), [len(part) for part in times])
    prompts = np.concatenate([prompt for prompt, _ in lengths])
    answers = np.concatenate([answer for _, answer in lengths])
    return Batch(at[order], owners[order], prompts[order], answers[order])
