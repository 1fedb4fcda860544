"""Lengths of requests from the ledger's rows: every finished request once, whatever ends and starts meanwhile. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pilotlight.activator.values import FunctionId
from pilotlight.platform.database.recommendations import Ended
from pilotlight.recommender.sketches import RequestLengths, Served

MEMORY = 50_000.0
"""Requests of a function after which an old one counts 1/e."""
SETTLED_SECONDS = 10.0
"""Rows of admissions so long ago are in the database, but for outages: those that come later are not counted."""
LONGEST_SECONDS = 900.0
"""A request that runs for longer is passed over, so that it holds up no others."""


@dataclass(frozen=True)
class Counted:
    """What is known up to one admission."""

    lengths: Mapping[FunctionId, RequestLengths] = field(default_factory=dict)
    until: float = 0.0
    """Unix time."""
    changed: frozenset[FunctionId] = frozenset()
    """By the last step."""


def count(before: Counted, rows: Sequence[Ended], now: float, made: Mapping[FunctionId, float]) -> Counted:
    """With more rows, in order of admission; up to the first that still runs, which is looked at again later.

    Args:
        before: What is known so far.
        rows: Of the ledger, after `before.until`.
        now: Unix time.
        made: When each function was made, Unix time: requests of one that had its name before, and of others, are none.
    """
    ended: dict[FunctionId, list[Served]] = defaultdict(list)
    until = before.until
    for row in rows:
        if row.outcome == "running" and now - row.admitted_at < LONGEST_SECONDS:
            break
        until = row.admitted_at
        if row.outcome == "ok" and row.admitted_at >= made.get(row.function, math.inf):
            ended[row.function].append(Served(row.prompt_tokens, row.completion_tokens, row.max_tokens or 0))
    lengths = dict(before.lengths)
    for function, requests in ended.items():
        lengths[function] = lengths.get(function, RequestLengths()).plus(requests, MEMORY)
    return Counted(lengths, until, frozenset(ended))
