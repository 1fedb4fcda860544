"""The line after an answer, and what is sent for it."""

from __future__ import annotations

import pytest

from pilotlight.platform.cli.call import body, summary
from pilotlight.platform.cli.calling import Record


@pytest.mark.parametrize(
    ("record", "line"),
    [
        pytest.param(
            Record(
                meta={"start": "cold", "start_ms": 14200, "queue_ms": 3},
                usage={"prompt_tokens": 31, "completion_tokens": 8},
                ttft_seconds=14.6,
                seconds=15.0,
            ),
            "cold: start 14.2 s, queue 3 ms, first token after 14.6 s; 31 prompt + 8 answer tokens in 15.0 s",
            id="cold",
        ),
        pytest.param(
            Record(headers={"x-pilotlight-start": "warm"}, ttft_seconds=0.2, seconds=0.5),
            "warm: first token after 200 ms in 500 ms",
            id="warm, without usage",
        ),
        pytest.param(Record(seconds=0.5), "warm: no token in 500 ms", id="empty answer"),
    ],
)
def test_the_summary_says_how_the_time_went(record: Record, line: str) -> None:
    assert summary(record) == line


def test_only_what_was_asked_for_is_sent() -> None:
    assert body("Hi", "", None, None) == {"messages": [{"role": "user", "content": "Hi"}]}
    assert body("Hi", "Be brief.", 7, 0.0) == {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "max_tokens": 7,
        "temperature": 0.0,
    }
