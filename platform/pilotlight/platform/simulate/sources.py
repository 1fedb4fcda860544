"""Arrivals by the name of their format."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from pathlib import Path

from pilotlight.platform.simulate.arrivals.densities import read_densities
from pilotlight.platform.simulate.arrivals.ledger import ledger
from pilotlight.platform.simulate.arrivals.lengths import Lengths, Same, read_lengths
from pilotlight.platform.simulate.arrivals.minutes import azure_functions
from pilotlight.platform.simulate.arrivals.servegen import servegen
from pilotlight.platform.simulate.arrivals.synthetic import Synthetic, synthetic
from pilotlight.platform.simulate.arrivals.tables import azure_llm, own
from pilotlight.platform.simulate.arrivals.values import Arrivals, between, thinned
from pilotlight.platform.simulate.errors import SimulationRefused
from pilotlight.platform.simulate.formats import Format


@dataclass(frozen=True)
class Source:
    """Which arrivals to take."""

    format: Format
    file: Path | None = None
    lengths: Path | None = None
    """A CSV in Vidur's form, or ServeGen's archive; None: 512 prompt and 128 answer tokens each."""
    below: float = inf
    """Of ServeGen's clients only those of a lower mean rate, requests per second."""
    rate: float = 0.1
    functions: int = 1
    seconds: float = 86_400.0
    share: float = 1.0
    """Of the requests, drawn."""
    begin: float = 0.0
    end: float = inf
    seed: int = 0


def open_source(source: Source) -> Arrivals:
    """Raises SimulationRefused: Also while the arrivals are read."""
    if not 0 < source.share <= 1 or not 0 <= source.begin < source.end:
        raise SimulationRefused("a share is above 0 and at most 1, and a window ends after it begins")
    arrivals = _whole(source)
    if (source.begin, source.end) != (0.0, inf):
        arrivals = between(arrivals, source.begin, source.end)
    return thinned(arrivals, source.share, source.seed) if source.share < 1 else arrivals


def _whole(source: Source) -> Arrivals:
    process = source.format.process
    if process is not None:
        if source.file is not None:
            raise SimulationRefused(f"{source.format} arrivals are made up and come from no file")
        made = Synthetic(process, source.rate, source.seconds, source.functions, source.seed)
        return synthetic(made, _lengths(source.lengths))
    if source.file is None:
        raise SimulationRefused(f"{source.format} arrivals need a file")
    match source.format:
        case Format.AZURE_LLM:
            return azure_llm(source.file)
        case Format.CSV:
            return own(source.file)
        case Format.LEDGER:
            return ledger(source.file, _lengths(source.lengths), source.seed)
        case Format.AZURE_FUNCTIONS:
            return azure_functions(source.file, _lengths(source.lengths), source.seed)
    below = source.below
    span = (source.begin, source.end)
    return servegen(source.file, _lengths(source.lengths), source.seed, lambda client: client.mean_rate < below, span)


def _lengths(file: Path | None) -> Lengths:
    if file is None:
        return Same()
    return read_densities(file) if ".tar" in file.suffixes else read_lengths(file)
