"""Requests in the order of their arrival, in batches, so that a trace of any length needs little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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


def beside(parts: Sequence[Arrivals]) -> Arrivals:
    """Several traces at the same time, each with functions of its own; pre: their functions are known beforehand."""
    names = [f"{place}/{name}" for place, part in enumerate(parts) for name in part.names]
    offsets = np.cumsum([0, *(len(part.names) for part in parts)])

    def read() -> Iterator[Batch]:
        streams = [part.read() for part in parts]
        heads = [next(stream, None) for stream in streams]
        while there := [(place, head) for place, head in enumerate(heads) if head is not None]:
            # Up to there everything is known of everyone.
            bound = min(head.times[-1] for _, head in there)
            taken = [(place, head.where(head.times <= bound)) for place, head in there]
            for place, head in there:
                left = head.where(head.times > bound)
                heads[place] = left if len(left) else next(streams[place], None)
            yield _together([replace(part, functions=part.functions + offsets[place]) for place, part in taken])

    classes = {f"{place}/{name}": slo for place, part in enumerate(parts) for name, slo in part.classes.items()}
    return Arrivals(read, names, classes)


def _together(parts: Sequence[Batch]) -> Batch:
    times = np.concatenate([part.times for part in parts])
    order = np.argsort(times, kind="stable")
    return Batch(
        times[order],
        np.concatenate([part.functions for part in parts])[order],
        np.concatenate([part.prompts for part in parts])[order],
        np.concatenate([part.answers for part in parts])[order],
    )


def merged(times: list[Floats], functions: list[int], lengths: list[tuple[Counts, Counts]]) -> Batch:
    """One batch of several functions' requests; the three lists are of one length."""
    columns = zip(times, functions, lengths, strict=True)
    return _together([Batch(at, np.full(len(at), place), *drawn) for at, place, drawn in columns])
