"""A streamed answer as events, and the record that is made of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable

import pytest

from pilotlight.platform.cli.calling import (
    CallEvent,
    Finished,
    Piece,
    Record,
    Started,
    Waiting,
    parse_waiting,
    read_call,
)
from pilotlight.platform.cli.errors import ApiError, CommandError


def data(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def delta(text: str, finish: str | None = None) -> bytes:
    return data({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]})


COLD = (
    b": scheduling (eta 14s)\n\n",
    b": loading weights 43% (eta 6s)\n\n",
    b': pilotlight {"queue_ms":3,"start_ms":14200,"replica":"r-1","start":"cold"}\n\n',
    data({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}),
    delta("Par"),
    delta("is", "stop"),
    data({"choices": [], "usage": {"prompt_tokens": 31, "completion_tokens": 2}}),
    b"data: [DONE]\n\n",
)


def events(chunks: Iterable[bytes]) -> list[CallEvent]:
    return list(read_call(chunks, time.monotonic()))


def recorded(chunks: Iterable[bytes]) -> Record:
    record = Record()
    for event in events(chunks):
        record.note(event)
    return record


def test_a_cold_call_tells_its_phases_its_timings_its_text_and_its_end() -> None:
    kinds = [type(event) for event in events(COLD)]

    assert kinds == [Waiting, Waiting, Started, Piece, Piece, Finished]


def test_the_record_of_a_cold_call_holds_all_of_it() -> None:
    record = recorded(COLD)

    assert record.text == "Paris"
    assert record.cold
    assert [(seen.phase, seen.percent, seen.eta_seconds) for seen in record.phases] == [
        ("scheduling", None, 14.0),
        ("loading weights", 43, 6.0),
    ]
    assert record.meta["replica"] == "r-1"
    assert (record.queue_seconds, record.start_seconds) == (0.003, 14.2)
    assert record.usage == {"prompt_tokens": 31, "completion_tokens": 2}
    assert record.reason == "stop"
    assert record.ttft_seconds is not None
    assert record.ttft_seconds <= record.seconds


def test_the_json_of_a_call_names_text_phases_headers_and_usage() -> None:
    assert recorded(COLD).as_json().keys() == {
        "text",
        "cold",
        "phases",
        "pilotlight",
        "headers",
        "usage",
        "finish_reason",
        "ttft_seconds",
        "seconds",
    }


def test_a_call_that_was_not_held_has_its_timings_in_the_headers() -> None:
    record = recorded(COLD[3:])
    record.headers = {"x-pilotlight-start": "warm", "x-pilotlight-queue-ms": "120", "x-pilotlight-start-ms": "0"}

    assert not record.cold
    assert (record.queue_seconds, record.start_seconds) == (0.12, 0.0)


@pytest.mark.parametrize(
    ("comment", "phase", "percent", "eta"),
    [
        pytest.param("loading weights 43% (eta 12s)", "loading weights", 43, 12.0, id="phase, percent and eta"),
        pytest.param("scheduling (eta 60s)", "scheduling", None, 60.0, id="no percent"),
        pytest.param("warming up", "warming up", None, None, id="phase alone"),
        pytest.param("waiting for a free slot (3 queued)", "waiting for a free slot", None, None, id="queue"),
        pytest.param("", "", None, None, id="empty"),
        pytest.param("100% (sure) of it", "100% (sure) of it", None, None, id="no comment of ours"),
    ],
)
def test_a_comment_is_a_phase(comment: str, phase: str, percent: int | None, eta: float | None) -> None:
    assert parse_waiting(comment, 1.5) == Waiting(phase, percent, 1.5, eta)


def test_a_refusal_after_the_stream_began_carries_status_and_retry() -> None:
    refusal = data({"error": {"message": "It cannot start.", "code": "start_failed", "status": 503, "retry_after": 30}})

    with pytest.raises(ApiError) as caught:
        events([b": scheduling\n\n", refusal])

    assert caught.value.status == 503
    assert str(caught.value) == "It cannot start. Try again in 30 s."


def test_a_stream_that_breaks_off_is_an_error() -> None:
    with pytest.raises(CommandError, match="broke off before its end"):
        events(COLD[:-1])


@pytest.mark.parametrize("line", [b"data: {\n\n", b"data: 7\n\n"], ids=["no JSON", "no object"])
def test_what_is_no_chunk_is_an_error(line: bytes) -> None:
    with pytest.raises(CommandError, match="not a JSON object"):
        events([line])


def test_a_comment_that_only_looks_like_our_account_is_told_like_any_other() -> None:
    first, *_ = events([b": pilotlight {oops\n\n", b"data: [DONE]\n\n"])

    assert first == Waiting("pilotlight {oops", None, first.at)
