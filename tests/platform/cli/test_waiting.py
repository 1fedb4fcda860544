"""The line of a waiting call."""

from __future__ import annotations

import pytest

from pilotlight.platform.cli.calling import Waiting
from pilotlight.platform.cli.waiting import Lines, Silent, Span, frame, spans, waiting_line

SEEN = [
    Waiting("scheduling", None, 0.1, 14.0),
    Waiting("loading weights", 10, 0.5, 8.0),
    Waiting("loading weights", 43, 4.5, 6.0),
]


def test_phases_follow_one_another_and_keep_their_last_percent() -> None:
    assert spans(SEEN, 6.0) == [Span("scheduling", 0.1, 0.5, None), Span("loading weights", 0.5, 6.0, 43)]


def test_nothing_seen_is_no_phase() -> None:
    assert spans([], 1.0) == []


def test_the_line_shows_what_passed_what_is_on_and_what_is_left() -> None:
    line = frame("chat", SEEN, 6.5).plain

    assert line == "chat: scheduling 400 ms, loading weights 43%   6.5 s, about 4 s to go"


def test_a_call_that_nobody_told_anything_still_shows_its_seconds() -> None:
    assert frame("chat", [], 2.0).plain == "chat: waiting for the first word   2.0 s"


def test_an_eta_that_has_passed_is_zero_not_negative() -> None:
    assert frame("chat", SEEN, 60.0).plain.endswith("about 0 s to go")


def test_without_a_terminal_nothing_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    with waiting_line("chat") as line:
        line.show(SEEN[0])

    assert isinstance(line, Silent)
    assert capsys.readouterr() == ("", "")


def test_where_nothing_can_be_redrawn_each_phase_is_written_once() -> None:
    written: list[str] = []
    line = Lines(written.append)

    for seen in SEEN:
        line.show(seen)

    assert written == ["scheduling, about 14 s to go", "loading weights, about 8 s to go"]
