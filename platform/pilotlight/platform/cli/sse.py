"""Server-sent events from bytes: events and comments, in order.

Lines are split at the line feed alone: other splitters also break at U+2028, which JSON carries unescaped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_EVENT_BYTES = 4 * 2**20
"""An event or comment longer than this is no answer of ours."""


class StreamFormatError(Exception):
    """The stream is not server-sent events."""


@dataclass(frozen=True)
class Comment:
    """A line that starts with a colon."""

    text: str


@dataclass(frozen=True)
class Event:
    """A block of `data:` lines, with its `event:` name."""

    data: str
    name: str = "message"


@dataclass
class SseReader:
    """Feed it bytes as they come; it keeps the unfinished rest."""

    _rest: bytearray = field(default_factory=bytearray)
    _data: list[str] = field(default_factory=list)
    _name: str = "message"

    def feed(self, chunk: bytes) -> Iterator[Comment | Event]:
        """Yield all that `chunk` completes. Raises StreamFormatError when one item outgrows MAX_EVENT_BYTES."""
        self._rest += chunk
        *lines, rest = bytes(self._rest).split(b"\n")
        self._rest = bytearray(rest)
        for line in lines:
            yield from self._line(line.rstrip(b"\r").decode("utf-8", errors="replace"))
        if len(self._rest) + sum(map(len, self._data)) > MAX_EVENT_BYTES:
            raise StreamFormatError(f"an event is longer than {MAX_EVENT_BYTES} bytes")

    def _line(self, line: str) -> Iterator[Comment | Event]:
        if not line:
            yield from self._dispatch()
        elif line.startswith(":"):
            yield Comment(line[1:].strip())
        else:
            self._field(*_split_field(line))

    def _field(self, name: str, value: str) -> None:
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._name = value

    def _dispatch(self) -> Iterator[Event]:
        if self._data:
            yield Event("\n".join(self._data), self._name)
        self._data, self._name = [], "message"


def _split_field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name, value.removeprefix(" ")
