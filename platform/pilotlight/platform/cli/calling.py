"""One call as a sequence of events: what happens while it waits, its text, and what it came to.

The activator tells a held stream its phase in comments (`: loading weights 43%`), then its timings in one comment
`: pilotlight {...}`, then the engine's events follow. This module turns the three into values; printing is elsewhere.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pilotlight.platform.cli.errors import ApiError, CommandError
from pilotlight.platform.cli.sse import Comment, Event, SseReader, StreamFormatError

META_PREFIX = "pilotlight "
_COMMENT = re.compile(r"(?P<phase>.*?)(?: (?P<percent>\d{1,3})%)?(?: \((?:eta (?P<eta>\d{1,6})s|[^()]*)\))?", re.DOTALL)


@dataclass(frozen=True)
class Waiting:
    """A comment of a held request."""

    phase: str
    percent: int | None
    at: float
    """Seconds since the call began."""
    eta_seconds: float | None = None
    """Until the function is ready, as the platform has learned."""


@dataclass(frozen=True)
class Started:
    """The request has a replica; `meta` is the activator's own account (queue and start milliseconds, replica)."""

    meta: Mapping[str, Any]
    at: float


@dataclass(frozen=True)
class Piece:
    """Some text of the answer."""

    text: str
    at: float


@dataclass(frozen=True)
class Finished:
    """The end of the answer."""

    usage: Mapping[str, Any]
    reason: str
    at: float


CallEvent = Waiting | Started | Piece | Finished


def read_call(chunks: Iterable[bytes], began: float) -> Iterator[CallEvent]:
    """Turn the bytes of a streamed chat answer into events. `began` is a `time.monotonic()` value.

    Raises ApiError for an error event and CommandError when the stream ends before its `[DONE]`.
    """
    reader, end = SseReader(), _End()
    for item in _items(chunks, reader):
        at = time.monotonic() - began
        if isinstance(item, Comment):
            yield _comment(item.text, at)
        elif item.data == "[DONE]":
            yield Finished(end.usage, end.reason, at)
            return
        else:
            yield from end.take(_chunk(item), at)
    raise CommandError("the answer broke off before its end; the replica may have died, see `pilotlight logs FUNCTION`")


def _items(chunks: Iterable[bytes], reader: SseReader) -> Iterator[Comment | Event]:
    try:
        for chunk in chunks:
            yield from reader.feed(chunk)
    except StreamFormatError as error:
        raise CommandError(f"the answer cannot be read: {error}") from error


def parse_waiting(comment: str, at: float) -> Waiting:
    """`loading weights 43% (eta 12s)` is the phase `loading weights` at 43 percent, 12 s before it is ready."""
    found = _COMMENT.fullmatch(comment)
    assert found is not None  # the pattern's first part takes anything
    percent, eta = found["percent"], found["eta"]
    return Waiting(
        found["phase"].strip(),
        None if percent is None else min(100, int(percent)),
        at,
        None if eta is None else float(eta),
    )


def _comment(text: str, at: float) -> Waiting | Started:
    if text.startswith(META_PREFIX + "{"):
        try:
            return Started(json.loads(text.removeprefix(META_PREFIX)), at)
        except ValueError:
            pass  # told to a person below, like any other comment
    return parse_waiting(text, at)


def _chunk(event: Event) -> dict[str, Any]:
    try:
        chunk = json.loads(event.data)
    except ValueError:
        chunk = None
    if not isinstance(chunk, dict):
        raise CommandError(f"the answer cannot be read: {event.data[:200]!r} is not a JSON object")
    error = chunk.get("error")
    if error:
        raise stream_error(error)
    return chunk


def stream_error(error: object) -> ApiError:
    """The error event of a stream that has begun: OpenAI's shape with status and `retry_after`."""
    said: Mapping[str, Any] = error if isinstance(error, Mapping) else {"message": str(error)}
    status = said.get("status")
    return ApiError(
        status if isinstance(status, int) else 500,
        str(said.get("message") or "the stream ended with an error"),
        retry_after=str(said.get("retry_after") or ""),
    )


@dataclass
class _End:
    """What the last chunks say."""

    usage: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""

    def take(self, chunk: dict[str, Any], at: float) -> Iterator[Piece]:
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk.get("choices") or ():
            self.reason = choice.get("finish_reason") or self.reason
            text = (choice.get("delta") or {}).get("content")
            if text:
                yield Piece(text, at)


@dataclass
class Record:
    """A call's account, gathered from its events."""

    headers: Mapping[str, str] = field(default_factory=dict)
    phases: list[Waiting] = field(default_factory=list)
    meta: Mapping[str, Any] = field(default_factory=dict)
    usage: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    pieces: list[str] = field(default_factory=list)
    ttft_seconds: float | None = None
    seconds: float = 0.0

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def cold(self) -> bool:
        """Whether it waited for a start."""
        return self._fact("start") == "cold"

    @property
    def start_seconds(self) -> float:
        """Waited for a start."""
        return _seconds(self._fact("start_ms"))

    @property
    def queue_seconds(self) -> float:
        """Waited for a free slot."""
        return _seconds(self._fact("queue_ms"))

    def _fact(self, name: str) -> object:
        """A held stream is told in a comment what others find in the headers."""
        return self.meta.get(name, self.headers.get(f"x-pilotlight-{name.replace('_', '-')}"))

    def note(self, event: CallEvent) -> None:
        match event:
            case Waiting():
                self.phases.append(event)
            case Started():
                self.meta = event.meta
            case Piece():
                self.pieces.append(event.text)
                self.ttft_seconds = event.at if self.ttft_seconds is None else self.ttft_seconds
            case Finished():
                self.usage, self.reason = event.usage, event.reason
        self.seconds = event.at

    def as_json(self) -> dict[str, Any]:
        return {
            "text": self.text,
            "cold": self.cold,
            "phases": [_phase_json(seen) for seen in self.phases],
            "pilotlight": dict(self.meta),
            "headers": dict(self.headers),
            "usage": dict(self.usage),
            "finish_reason": self.reason,
            "ttft_seconds": self.ttft_seconds,
            "seconds": self.seconds,
        }


def _phase_json(seen: Waiting) -> dict[str, Any]:
    return {
        "phase": seen.phase,
        "percent": seen.percent,
        "eta_seconds": seen.eta_seconds,
        "at": round(seen.at, 3),
    }


def _seconds(milliseconds: object) -> float:
    try:
        return float(str(milliseconds)) / 1000
    except ValueError:
        return 0.0
