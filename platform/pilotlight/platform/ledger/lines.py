"""The journal's lines: one JSON object each, and folding them into the last state of every request."""

from __future__ import annotations

import json
from collections.abc import Iterable

from pilotlight.activator.values import FunctionId, Usage

LINE_LIMIT = 16 * 2**10
"""Longest line that is read, bytes; ours are under 1 KiB."""
REASON_LIMIT = 500


def encode(usage: Usage) -> bytes:
    """A whole line. On the hot path, so without `asdict`, which copies deeply."""
    values = {**vars(usage), "function": str(usage.function), "reason": usage.reason[:REASON_LIMIT]}
    return json.dumps(values).encode() + b"\n"


def decode(line: bytes) -> Usage | None:
    """None: torn or foreign."""
    if len(line) > LINE_LIMIT:
        return None
    try:
        values = json.loads(line)
        namespace, name = values.pop("function").split("/")
        return Usage(function=FunctionId(namespace, name), **values)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def later(known: Usage | None, new: Usage) -> Usage:
    """Of two lines of one request, the one that stands: a final one, else the higher count."""
    if known is None:
        return new
    if known.outcome != "running":
        return known
    if new.outcome != "running" or new.completion_tokens >= known.completion_tokens:
        return new
    return known


def fold(lines: Iterable[bytes]) -> tuple[dict[str, Usage], int]:
    """Last state by request, in order of admission, and how many lines could not be read."""
    state: dict[str, Usage] = {}
    unreadable = 0
    for line in lines:
        usage = decode(line) if line.endswith(b"\n") else None
        if usage is None:
            unreadable += 1
            continue
        state[usage.request] = later(state.get(usage.request), usage)
    return state, unreadable
