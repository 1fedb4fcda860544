"""Arrivals from a platform's own ledger: the rows of `GET /usage/rows`, one JSON object on each line.

Recorded decisions have what was in hand when something was decided and not what arrived; the ledger has every request.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pilotlight.platform.simulate.arrivals.lengths import Lengths
from pilotlight.platform.simulate.arrivals.text import MOST_TOKENS, lines
from pilotlight.platform.simulate.arrivals.values import MOST_FUNCTIONS, Arrivals, Batch, Counts, Floats
from pilotlight.platform.simulate.errors import TraceRefused

MOST_ROWS = 2_000_000
"""They are held in memory, with their ids."""
TOO_MANY_REQUESTS = 429
_BATCH = 16_384

_Name = Annotated[str, Field(min_length=1, max_length=253)]
_Tokens = Annotated[int, Field(ge=0, le=MOST_TOKENS)]


class LedgerRow(BaseModel):
    """What a simulation takes of a row; the other columns are passed on."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    request: _Name
    namespace: _Name
    function: _Name
    admitted_at: Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)]
    prompt_tokens: _Tokens
    completion_tokens: _Tokens
    outcome: Literal["running", "ok", "cancelled", "rejected", "failed", "unknown"]
    status: Annotated[int, Field(ge=0, le=599)]

    @property
    def asks_for_work(self) -> bool:
        """Whether a larger platform would have served it: not what was refused for its caller's own fault."""
        faulty = 400 <= self.status < 500 and self.status != TOO_MANY_REQUESTS
        return not (self.outcome == "rejected" and faulty)


def ledger(file: Path, lengths: Lengths, seed: int) -> Arrivals:
    """The requests in the order of their admission, in whatever order the rows are; time counts from the first.

    Args:
        file: The rows.
        lengths: Of requests that ended before an engine counted their prompts.
        seed: Of lengths that are drawn.

    Raises:
        TraceRefused: At once, for the whole file.
    """
    names, times, columns = _read(file)
    # Rows of one moment keep the file's order.
    order = np.argsort(times, kind="stable")
    times, (places, prompts, answers) = times[order], columns[:, order]
    times = times - times[0]
    random = np.random.default_rng(seed)
    for row in np.flatnonzero(prompts == 0):
        prompt, answer = lengths.draw(random, 1, names[places[row]], float(times[row]))
        prompts[row], answers[row] = prompt[0], answer[0]
    answers = np.maximum(answers, 1)

    def read() -> Iterator[Batch]:
        for begin in range(0, len(times), _BATCH):
            part = slice(begin, begin + _BATCH)
            yield Batch(times[part], places[part], prompts[part], answers[part])

    return Arrivals(read, names)


def _read(file: Path) -> tuple[list[str], Floats, Counts]:
    """Names; Unix times; and places, prompt and answer tokens of shape (3, requests)."""
    places: dict[str, int] = {}
    seen: set[str] = set()
    times, counts = array("d"), array("q")
    for number, text in lines(file):
        row = _row(file, number, text)
        if row.request in seen:
            raise TraceRefused(file, f"{row.request} is in a line above, too", number, "request")
        if len(seen) == MOST_ROWS:
            raise TraceRefused(file, f"more than {MOST_ROWS:,} rows; take a shorter time", number)
        seen.add(row.request)
        if row.asks_for_work:
            place = places.setdefault(f"{row.namespace}/{row.function}", len(places))
            if place == MOST_FUNCTIONS:
                raise TraceRefused(file, f"more than {MOST_FUNCTIONS:,} functions", number, "function")
            times.append(row.admitted_at)
            counts.extend((place, row.prompt_tokens, row.completion_tokens))
    if not times:
        raise TraceRefused(file, "has no requests that a platform would serve")
    return list(places), np.array(times), np.array(counts, dtype=np.int64).reshape(-1, 3).T.copy()


def _row(file: Path, number: int, text: str) -> LedgerRow:
    try:
        return LedgerRow.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        problem = first["msg"]
        if first["type"] not in ("missing", "json_invalid"):
            problem = f"{problem}, found {first['input']!r:.60}"
        raise TraceRefused(file, problem, number, ".".join(map(str, first["loc"]))) from None
