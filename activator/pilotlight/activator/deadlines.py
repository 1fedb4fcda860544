"""`X-Request-Deadline`: how long the caller is willing to wait for the engine's first byte."""

from __future__ import annotations

import math
import re
from datetime import datetime

from pilotlight.activator.errors import RefusedError, invalid

HEADER = "X-Request-Deadline"
_NUMBER = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ms|s|m|h)?", re.ASCII)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_EPOCH_FROM = 1e9  # a bare number from here on is Unix time: as a duration it would be 31 years


def remaining(text: str, now: float) -> float:
    """Seconds from `now` (Unix time) until the deadline in `text`, negative when it has passed.

    Accepted: seconds (`30`, `2.5`), a duration with unit (`500ms`, `30s`, `2m`, `1h`), Unix time (`1790000000`), or
    RFC 3339 with an offset (`2026-01-02T03:04:05Z`). Raises `RefusedError` (400) for anything else.
    """
    text = text.strip()
    match = _NUMBER.fullmatch(text)
    if match is None:
        return _timestamp(text) - now
    value = float(match[1])
    if match[2] is None and value >= _EPOCH_FROM:
        return value - now
    return value * _UNITS[match[2] or "s"]


def _timestamp(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
        seconds = moment.timestamp() if moment.tzinfo is not None else math.nan
    except (ValueError, OverflowError):
        seconds = math.nan
    if math.isnan(seconds):
        raise _malformed(text)
    return seconds


def _malformed(text: str) -> RefusedError:
    return invalid(
        f"{HEADER} {text[:64]!r} is not understood: expected seconds (30), a duration (500ms, 30s, 2m, 1h), Unix time, "
        "or RFC 3339 with an offset (2026-01-02T03:04:05Z).",
        param=HEADER,
    )
