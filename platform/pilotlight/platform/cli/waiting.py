"""The line that stands while a call waits: the cold start's phases so far, and the seconds ticking."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from pilotlight.platform.cli.calling import Waiting
from pilotlight.platform.cli.output import seconds, terminal

if TYPE_CHECKING:
    from rich.spinner import Spinner
    from rich.text import Text

REFRESH_PER_SECOND = 8


@dataclass(frozen=True)
class Span:
    """One phase as the caller saw it; seconds since the call began. `percent` is the last that was told."""

    phase: str
    begin: float
    end: float
    percent: int | None = None


def spans(seen: list[Waiting], now: float) -> list[Span]:
    """The phases in the order they came; each ends where the next begins, the last at `now`."""
    firsts: list[Waiting] = []
    for waiting in seen:
        if firsts and firsts[-1].phase == waiting.phase:
            firsts[-1] = replace(waiting, at=firsts[-1].at)
        else:
            firsts.append(waiting)
    ends = [later.at for later in firsts[1:]] + [now] * bool(firsts)
    return [Span(first.phase, first.at, end, first.percent) for first, end in zip(firsts, ends, strict=True)]


class Line(Protocol):
    """Where a waiting call reports to."""

    def show(self, waiting: Waiting) -> None:
        """A comment came."""

    def clear(self) -> None:
        """The wait is over; leave nothing behind. May be called again."""


class Silent:
    """Says nothing: no terminal, or none wanted."""

    def show(self, waiting: Waiting) -> None:
        """Nothing."""

    def clear(self) -> None:
        """Nothing."""


@dataclass
class Live:
    """A spinner line on a terminal's stderr."""

    function: str
    began: float
    _seen: list[Waiting] = field(default_factory=list)

    def __post_init__(self) -> None:
        from rich.live import Live as RichLive
        from rich.spinner import Spinner

        self._spinner = Spinner("dots", style="cyan")
        self._live = RichLive(
            console=terminal(stderr=True),
            get_renderable=self._frame,
            refresh_per_second=REFRESH_PER_SECOND,
            transient=True,
        )
        self._live.start()

    def show(self, waiting: Waiting) -> None:
        self._seen.append(waiting)

    def clear(self) -> None:
        self._live.stop()

    def _frame(self) -> Spinner:
        self._spinner.update(text=frame(self.function, self._seen, time.monotonic() - self.began))
        return self._spinner


def frame(function: str, seen: list[Waiting], now: float) -> Text:
    """`chat: fetch 0.3 s, import 9.1 s, loading weights 43%   12.4 s`."""
    from rich.text import Text

    line = Text(f"{function}: ", style="bold")
    *passed, current = spans(seen, now) or [Span("waiting for the first word", 0.0, now)]
    for span in passed:
        line.append(f"{span.phase} {seconds(span.end - span.begin)}, ", style="dim")
    percent = "" if current.percent is None else f" {current.percent}%"
    line.append(f"{current.phase}{percent}", style="cyan")
    eta = seen[-1].eta_seconds if seen else None
    left = "" if eta is None else f", {about(seen[-1].at + eta - now)} to go"
    line.append(f"   {seconds(now)}{left}", style="dim")
    return line


@dataclass
class Lines:
    """A line for each new phase, where nothing can be redrawn."""

    write: Callable[[str], None]
    _last: str = ""

    def show(self, waiting: Waiting) -> None:
        if waiting.phase != self._last:
            eta = "" if waiting.eta_seconds is None else f", {about(waiting.eta_seconds)} to go"
            self.write(f"{waiting.phase}{eta}")
        self._last = waiting.phase

    def clear(self) -> None:
        """What is written stays."""


def about(length: float) -> str:
    """An estimate, to the second: more digits would promise too much."""
    whole = max(0, round(length))
    return f"about {whole} s" if whole < 60 else f"about {seconds(whole)}"


@contextmanager
def waiting_line(function: str, *, wanted: bool = True, otherwise: Line | None = None) -> Iterator[Line]:
    """A live line where stderr is a terminal; elsewhere `otherwise`, or silence. Cleared on every way out."""
    live = wanted and sys.stderr.isatty()
    line: Line = Live(function, time.monotonic()) if live else otherwise or Silent()
    try:
        yield line
    finally:
        line.clear()
