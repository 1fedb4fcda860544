"""Azure Functions' traces: how often each function was called in each minute of a day."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pilotlight.platform.simulate.arrivals.lengths import Lengths
from pilotlight.platform.simulate.arrivals.text import Row, rows
from pilotlight.platform.simulate.arrivals.values import MOST_FUNCTIONS, Arrivals, Batch, Counts, merged
from pilotlight.platform.simulate.errors import TraceRefused

MOST_MINUTES = 1440
MOST_CALLS = 10_000_000
"""Of one function in one minute."""
_NAME = "HashFunction"


def azure_functions(file: Path, lengths: Lengths, seed: int) -> Arrivals:
    """`HashFunction,...,minute_1,minute_2,...`; calls fall anywhere in their minute, all moments alike.

    Raises:
        TraceRefused: At once, for the whole file: a minute's column is spread over all its lines.
    """
    names, minutes = _read(file)

    def read() -> Iterator[Batch]:
        random = np.random.default_rng(seed)
        for minute, calls in enumerate(minutes.T):
            called = np.flatnonzero(calls)
            if len(called):
                yield _minute(random, minute, [(int(at), int(calls[at])) for at in called], names, lengths)

    return Arrivals(read, names)


def _minute(
    random: np.random.Generator, minute: int, calls: list[tuple[int, int]], names: list[str], lengths: Lengths
) -> Batch:
    start = 60.0 * minute
    return merged(
        [np.sort(start + 60 * random.random(count)) for _, count in calls],
        [place for place, _ in calls],
        [lengths.draw(random, count, names[place], start) for place, count in calls],
    )


def _read(file: Path) -> tuple[list[str], Counts]:
    """Names, and calls of shape (functions, minutes)."""
    names: list[str] = []
    table: list[Counts] = []
    columns: list[str] | None = None
    for row in rows(file, (_NAME, "minute_1")):
        columns = _minutes(row) if columns is None else columns
        if len(names) == MOST_FUNCTIONS:
            raise row.refused(_NAME, f"more than {MOST_FUNCTIONS:,} functions")
        names.append(row.text(_NAME))
        table.append(np.array([_calls(row, column) for column in columns], dtype=np.int32))
    if not table:
        raise TraceRefused(file, "has no functions")
    return names, np.stack(table)


def _minutes(row: Row) -> list[str]:
    """The minutes' columns in their order, as many as there are from 1 on."""
    columns: list[str] = []
    while len(columns) < MOST_MINUTES and row.has(f"minute_{len(columns) + 1}"):
        columns.append(f"minute_{len(columns) + 1}")
    return columns


def _calls(row: Row, column: str) -> int:
    calls = row.number(column)
    if calls != int(calls) or calls > MOST_CALLS:
        raise row.refused(column, f"expected a whole number of calls, at most {MOST_CALLS:,}, found {calls:g}")
    return int(calls)
