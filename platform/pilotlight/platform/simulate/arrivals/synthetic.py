"""Arrivals from a process: a rate that changes over time, and gaps that are as bursty as wished.

One mechanism serves all: gaps of mean 1 from a Gamma distribution of a given coefficient of variation (1 is Poisson)
are laid end to end, and each point is put where the rate's integral reaches it (time-rescaling theorem).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np

from pilotlight.platform.simulate.arrivals.lengths import Lengths
from pilotlight.platform.simulate.arrivals.values import MOST_FUNCTIONS, Arrivals, Batch, Floats, merged
from pilotlight.platform.simulate.errors import SimulationRefused
from pilotlight.platform.simulate.formats import Process

_WINDOW = 600.0  # seconds per batch
_STEPS = 600  # of the rate's integral in a window


@dataclass(frozen=True)
class Synthetic:
    """What to make up."""

    process: Process
    rate: float = 0.1
    """Requests per second of each function, the mean over the whole time."""
    seconds: float = 86_400.0
    functions: int = 1
    seed: int = 0
    variation: float = 4.0
    """Coefficient of variation of the gaps of `gamma`; real clients have 1.3 in the median, 4 to 8 at the 90th
    percentile (ServeGen)."""

    def __post_init__(self) -> None:
        if not (0 < self.rate <= 1e5 and 0 < self.seconds <= 1e8 and 0 < self.variation <= 100):
            raise SimulationRefused("a synthetic trace needs a rate, a length and a variation above 0")
        if not 1 <= self.functions <= MOST_FUNCTIONS:
            raise SimulationRefused(f"a synthetic trace has 1 to {MOST_FUNCTIONS:,} functions, not {self.functions}")


def synthetic(what: Synthetic, lengths: Lengths) -> Arrivals:
    """The same requests for the same seed."""
    names = [f"{what.process}-{place}" for place in range(what.functions)]

    def read() -> Iterator[Batch]:
        random = np.random.default_rng(what.seed)
        shape = _shape(what, random)
        streams = [_Stream(random, what.variation if what.process is Process.GAMMA else 1.0) for _ in names]
        for window in range(ceil(what.seconds / _WINDOW)):
            start = window * _WINDOW
            grid = np.linspace(start, min(start + _WINDOW, what.seconds), _STEPS + 1)
            rates = what.rate * shape((grid[:-1] + grid[1:]) / 2)
            reached = np.concatenate([[0.0], np.cumsum(rates * np.diff(grid))])
            times = [np.interp(stream.upto(reached[-1]), reached, grid) for stream in streams]
            called = [place for place, found in enumerate(times) if len(found)]
            if called:
                drawn = [lengths.draw(random, len(times[place]), names[place], start) for place in called]
                yield merged([times[place] for place in called], called, drawn)

    return Arrivals(read, names)


class _Stream:
    """One function's points of the process with rate 1, taken piece by piece."""

    def __init__(self, random: np.random.Generator, variation: float) -> None:
        self._random = random
        self._shape = 1 / variation**2
        self._next = float(random.random()) * self._gaps(1)[0]

    def upto(self, length: float) -> Floats:
        """The points within the next `length`."""
        points: list[Floats] = []
        while self._next < length:
            more = self._next + np.concatenate([[0.0], np.cumsum(self._gaps(int(length - self._next) + 16))])
            within = int(np.searchsorted(more[:-1], length))
            points.append(more[:within])
            self._next = float(more[within])
        self._next -= length
        return np.concatenate(points) if points else np.empty(0)

    def _gaps(self, count: int) -> Floats:
        return self._random.gamma(self._shape, 1 / self._shape, count)


def _shape(what: Synthetic, random: np.random.Generator) -> Callable[[Floats], Floats]:
    """The rate over time as a multiple of its mean."""
    match what.process:
        case Process.DIURNAL:  # from 5 % at night to almost twice the mean by day
            return lambda time: 1 - 0.95 * np.cos(2 * np.pi * time / 86_400)
        case Process.BURST:  # a minute of ten times the rate in every hour, on average; mean 1
            begins = random.random(int(what.seconds // 3600) + 1) * 3540 + 3600 * np.arange(what.seconds // 3600 + 1)
            return lambda time: _bursts(time, begins) / 1.15
        case Process.STEP:  # four times as much from half of the time on
            return lambda time: np.where(time < what.seconds / 2, 0.4, 1.6)
        case _:
            return np.ones_like


def _bursts(time: Floats, begins: Floats) -> Floats:
    since = time - begins[np.clip((time // 3600).astype(int), 0, len(begins) - 1)]
    return np.where((since >= 0) & (since < 60), 10.0, 1.0)
