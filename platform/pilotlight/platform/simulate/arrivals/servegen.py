"""ServeGen's traces: per client and 10-minute window a rate, and the shape of the gaps between requests.

A window's requests are as many as its rate says, and their gaps are drawn from its Gamma or Weibull distribution and
scaled to fill it: counts are the trace's own, only what happens inside ten minutes is drawn. Windows in which no client
called at all are gaps of the collection; they are cut out, and time goes on behind them.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pilotlight.platform.simulate.arrivals.archive import members
from pilotlight.platform.simulate.arrivals.lengths import Lengths
from pilotlight.platform.simulate.arrivals.values import MOST_FUNCTIONS, Arrivals, Batch, Floats, merged
from pilotlight.platform.simulate.errors import TraceRefused

MOST_WINDOWS = 100_000
HIGHEST_RATE = 100_000.0
"""Requests per second of one client."""
_COLUMNS = ("t_s", "rate_rps", "cv_iat", "pattern", "shape", "scale")
_PATTERNS = ("Gamma", "Weibull", "")


@dataclass(frozen=True)
class Client:
    """One client's windows; three columns of one length."""

    name: str
    rates: Floats
    """Requests per second."""
    shapes: Floats
    """Of the gaps' distribution."""
    weibull: Floats
    """1 where it is Weibull, 0 where Gamma."""

    @property
    def mean_rate(self) -> float:
        return float(self.rates.mean())


def servegen(
    file: Path,
    lengths: Lengths,
    seed: int,
    keep: Callable[[Client], bool] = lambda _: True,
    span: tuple[float, float] = (0.0, math.inf),
) -> Arrivals:
    """A `*-traces.tar.xz` with `chunk-<client>-trace.csv` of `t_s, rate_rps, cv_iat, pattern, shape, scale`.

    Args:
        file: The archive; nothing of it is written to disk.
        lengths: The lengths of requests.
        seed: Of everything that is drawn; each window draws for itself.
        keep: Which clients to take.
        span: Only windows that reach into these seconds are drawn; their requests are those of the whole trace.

    Raises:
        TraceRefused: At once.
    """
    seconds, everyone = read_clients(file)
    seen = np.flatnonzero(np.sum([client.rates for client in everyone], axis=0) > 0)
    clients = [client for client in everyone if keep(client)]

    def read() -> Iterator[Batch]:
        for place, window in enumerate(seen):
            start = place * seconds
            if start + seconds <= span[0] or start >= span[1]:
                continue
            random = np.random.default_rng((seed, int(window)))
            batch = _window(random, clients, int(window), start, seconds, lengths)
            if batch is not None:
                yield batch

    return Arrivals(read, [client.name for client in clients])


def _window(
    random: np.random.Generator, clients: list[Client], window: int, start: float, seconds: float, lengths: Lengths
) -> Batch | None:
    times: list[Floats] = []
    places: list[int] = []
    for place, client in enumerate(clients):
        count = round(float(client.rates[window]) * seconds)
        if count:
            places.append(place)
            gaps = _gaps(random, count + 1, float(client.shapes[window]), bool(client.weibull[window]))
            times.append(start + seconds * (np.cumsum(gaps)[:-1] / gaps.sum()))
    if not places:
        return None
    # Lengths are those of the trace's own time: a cut gap does not shift them.
    at = window * seconds
    drawn = [lengths.draw(random, len(t), clients[p].name, at) for t, p in zip(times, places, strict=True)]
    return merged(times, places, drawn)


def _gaps(random: np.random.Generator, count: int, shape: float, weibull: bool) -> Floats:
    gaps = random.weibull(shape, count) if weibull else random.gamma(shape, 1.0, count)
    # A small shape gives gaps of zero; all of them zero would fill nothing.
    return np.maximum(gaps, 1e-12)


def read_clients(file: Path) -> tuple[float, list[Client]]:
    """Seconds of a window, and all clients by their number. Raises TraceRefused."""
    found: dict[int, tuple[Floats, Client]] = {}
    for number, name, text in members(file, "trace.csv"):
        if len(found) == MOST_FUNCTIONS:
            raise TraceRefused(file, f"more than {MOST_FUNCTIONS:,} clients")
        found[number] = _client(file, number, name, text.splitlines())
    if not found:
        raise TraceRefused(file, "has no chunk-<client>-trace.csv")
    times = next(iter(found.values()))[0]
    for number, (own, _) in found.items():
        if not np.array_equal(own, times):
            raise TraceRefused(file, f"chunk-{number}-trace.csv has other windows than the first client")
    return _spacing(file, times), [client for _, (_, client) in sorted(found.items())]


def _spacing(file: Path, times: Floats) -> float:
    steps = np.diff(times)
    if not len(steps) or steps[0] <= 0 or not np.allclose(steps, steps[0]):
        raise TraceRefused(file, "windows are not of one length, in order", field="t_s")
    return float(steps[0])


def _client(file: Path, number: int, name: str, lines: list[str]) -> tuple[Floats, Client]:
    """The windows' beginnings, and the client."""
    if not 0 < len(lines) <= MOST_WINDOWS:
        raise TraceRefused(file, f"expected 1 to {MOST_WINDOWS:,} windows, found {len(lines):,}", field=name)
    rows = [_numbers(file, name, line, fields) for line, fields in enumerate(csv.reader(lines), 1)]
    columns = np.array(rows, dtype=np.float64)
    return columns[:, 0], Client(f"client-{number}", columns[:, 1], columns[:, 2], columns[:, 3])


def _numbers(file: Path, name: str, line: int, fields: list[str]) -> tuple[float, float, float, float]:
    """Beginning, rate, shape, and whether it is Weibull."""

    def refused(column: str, problem: str) -> TraceRefused:
        return TraceRefused(file, problem, line, f"{name}, {column}")

    if len(fields) != len(_COLUMNS):
        raise refused("fields", f"expected {', '.join(_COLUMNS)}, found {len(fields)} of them")
    row = dict(zip(_COLUMNS, fields, strict=True))
    values: dict[str, float] = {}
    for column, most in (("t_s", 1e12), ("rate_rps", HIGHEST_RATE), ("shape", 1e6)):
        values[column] = _number(row[column])
        if not 0 <= values[column] <= most:
            raise refused(column, f"expected a number from 0 to {most:g}, found {row[column][:40]!r}")
    if row["pattern"] not in _PATTERNS:
        raise refused("pattern", f"expected Gamma, Weibull or nothing, found {row['pattern'][:40]!r}")
    if values["rate_rps"] > 0 and not values["shape"] > 0:
        # Some windows have requests and no fit; gaps that are exponential claim nothing.
        return values["t_s"], values["rate_rps"], 1.0, 0.0
    return values["t_s"], values["rate_rps"], values["shape"], float(row["pattern"] == "Weibull")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
