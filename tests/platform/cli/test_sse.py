"""Reading server-sent events from bytes, however they are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.platform.cli import sse
from pilotlight.platform.cli.sse import Comment, Event, SseReader, StreamFormatError


def read(*chunks: bytes) -> list[Comment | Event]:
    reader = SseReader()
    return [item for chunk in chunks for item in reader.feed(chunk)]


def test_comments_and_events_come_in_order() -> None:
    stream = b": loading weights 43%\n\ndata: {}\n\n: pilotlight {}\n\ndata: [DONE]\n\n"

    assert read(stream) == [Comment("loading weights 43%"), Event("{}"), Comment("pilotlight {}"), Event("[DONE]")]


def test_an_event_of_several_data_lines_is_one_and_keeps_its_name() -> None:
    assert read(b"event: error\ndata: a\ndata: b\nid: 7\n\n") == [Event("a\nb", "error")]


def test_a_block_without_data_is_no_event_and_its_name_is_forgotten() -> None:
    assert read(b"event: ping\n\ndata: x\n\n") == [Event("x")]


def test_an_unfinished_event_is_not_told() -> None:
    assert read(b"data: half\n") == []


@pytest.mark.parametrize("letter", ["\u2028", "\u2029", "\x85", "\x0c"], ids=["LS", "PS", "NEL", "FF"])
def test_only_the_line_feed_ends_a_line(letter: str) -> None:
    assert read(f"data: a{letter}b\n\n".encode()) == [Event(f"a{letter}b")]


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8"))), st.integers(1, 7))
def test_the_cut_into_chunks_does_not_matter(texts: list[str], length: int) -> None:
    stream = "".join(f"data: {text}\n\n" for text in texts).encode()
    chunks = [stream[start : start + length] for start in range(0, len(stream), length)]

    assert read(*chunks) == read(stream) == [Event(text) for text in texts]


def test_a_carriage_return_before_the_line_feed_is_no_part_of_the_line() -> None:
    assert read(b"data: x\r\n\r\n") == [Event("x")]


def test_an_endless_event_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)

    with pytest.raises(StreamFormatError, match="longer than 100 bytes"):
        read(b"data: " + b"x" * 60, b"x" * 60)
