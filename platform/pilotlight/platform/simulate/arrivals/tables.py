"""Arrivals with one line per request: Azure's trace of its LLM service, and files of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path

import numpy as np

from pilotlight.platform.simulate.arrivals.text import Row, rows
from pilotlight.platform.simulate.arrivals.values import MOST_FUNCTIONS, Arrivals, Batch
from pilotlight.platform.simulate.scenario import CLASSES

OWN_COLUMNS = ("time", "function", "prompt_tokens", "output_tokens")
_AZURE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_AZURE_NAME = "azure-llm"
_BATCH = 16_384
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - only differences count, whatever the zone

_Request = tuple[float, int, int, int]
"""Seconds, place of the function, prompt tokens, answer tokens."""


def azure_llm(file: Path) -> Arrivals:
    """`TIMESTAMP,ContextTokens,GeneratedTokens`, one service. Time counts from the first request.

    Raises:
        TraceRefused: While it is read.
    """

    def requests() -> Iterator[_Request]:
        first, before = None, 0.0
        for row in rows(file, _AZURE_COLUMNS):
            moment = _moment(row)
            first = moment if first is None else first
            before = _in_order(row, "TIMESTAMP", moment - first, before)
            yield before, 0, row.tokens("ContextTokens"), row.tokens("GeneratedTokens")

    return Arrivals(lambda: _batches(requests()), [_AZURE_NAME])


def own(file: Path) -> Arrivals:
    """`time,function,prompt_tokens,output_tokens[,class]`: seconds in order, tokens, one class per function.

    Raises:
        TraceRefused: While it is read.
    """
    names: list[str] = []
    classes: dict[str, str] = {}

    def requests() -> Iterator[_Request]:
        places = {name: place for place, name in enumerate(names)}
        before = 0.0
        for row in rows(file, OWN_COLUMNS):
            name = row.text("function")
            if name not in places:
                places[name] = _enter(row, name, names)
            _classify(row, name, classes)
            before = _in_order(row, "time", row.number("time"), before)
            yield before, places[name], row.tokens("prompt_tokens"), row.tokens("output_tokens")

    return Arrivals(lambda: _batches(requests()), names, classes)


def _enter(row: Row, name: str, names: list[str]) -> int:
    if len(names) == MOST_FUNCTIONS:
        raise row.refused("function", f"more than {MOST_FUNCTIONS:,} functions")
    names.append(name)
    return len(names) - 1


def _classify(row: Row, name: str, classes: dict[str, str]) -> None:
    if not row.has("class"):
        return
    given = row.text("class")
    if given not in CLASSES:
        raise row.refused("class", f"expected one of {', '.join(CLASSES)}, found {given[:40]!r}")
    if classes.setdefault(name, given) != given:
        raise row.refused("class", f"{name[:40]} was {classes[name]} before, and a function has one class")


def _moment(row: Row) -> float:
    """Seconds; of which day does not matter."""
    value = row.text("TIMESTAMP")
    try:
        return (datetime.fromisoformat(value).replace(tzinfo=None) - _EPOCH).total_seconds()
    except ValueError:
        raise row.refused("TIMESTAMP", f"expected a date and time, found {value[:40]!r}") from None


def _in_order(row: Row, column: str, time: float, before: float) -> float:
    if time < before:
        raise row.refused(column, f"{before - time:g} s before the line above; requests must be in order")
    return time


def _batches(requests: Iterable[_Request]) -> Iterator[Batch]:
    left = iter(requests)
    while batch := list(islice(left, _BATCH)):
        times, functions, prompts, answers = zip(*batch, strict=True)
        yield Batch(np.array(times), np.array(functions), np.array(prompts), np.array(answers))
