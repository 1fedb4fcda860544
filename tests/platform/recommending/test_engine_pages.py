"""From an engine's metrics page to an observation, over all that lies between: what is wrong on it teaches nothing."""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise

import pytest

from pilotlight.recommender.learning import Counters, window
from pilotlight.recommender.performance import Observation
from pilotlight.runtime.codec import dump, parse_status
from pilotlight.runtime.counting import COUNTERS_SECONDS, Counting
from pilotlight.runtime.spec import ReplicaState, ReplicaStatus

SECONDS = int(COUNTERS_SECONDS)
IN_FLIGHT = 4
COUNTERS = (
    ("vllm:prompt_tokens_total", 1000.0),
    ("vllm:time_to_first_token_seconds_count", 10.0),
    ("vllm:time_to_first_token_seconds_sum", 2.0),
    ("vllm:inter_token_latency_seconds_count", 200.0),
    ("vllm:inter_token_latency_seconds_sum", 5.0),
)
NAMES = [name for name, _ in COUNTERS]
USUAL = Observation(batch=4.0, prompt=100.0, itl=0.025, ttft=0.2)
"""One window of `COUNTERS`."""


def page(windows: float, **changed: str) -> str:
    """Of an engine that has run for so many windows; `changed`: other values by name."""
    lines = [f"{name} {changed.get(name, windows * each)}" for name, each in COUNTERS]
    return "\n".join(["vllm:num_requests_running 4", "vllm:num_requests_waiting 0", *lines, ""])


async def learned(*pages: str) -> list[Observation | None]:
    """What each page after the first one teaches, as it goes: supervisor, status, platform."""
    now, shown, told = 1000.0, "", list[Counters]()

    async def show() -> str:
        return shown

    counting = Counting(show, lambda: now)
    for shown in pages:  # noqa: B007 - `show` reads it
        for _ in range(SECONDS):
            now += 1.0
            await counting.looked(IN_FLIGHT)
        status = dump(ReplicaStatus("r", "chat-00001", ReplicaState.READY, counters=counting.counters))
        counters = parse_status(status).counters
        assert counters is not None
        told.append(Counters(**asdict(counters)))
    return [window(before, after) for before, after in pairwise(told)]


async def test_pages_of_a_steady_engine_teach_the_same_in_every_window() -> None:
    assert await learned(page(1), page(2), page(3)) == [USUAL, USUAL]


@pytest.mark.parametrize("name", NAMES)
async def test_a_counter_that_fell_teaches_nothing_until_there_are_two_pages_of_the_new_engine(name: str) -> None:
    assert await learned(page(5), page(6, **{name: "1.0"}), page(1), page(2)) == [None, None, USUAL]


async def test_an_engine_that_was_started_anew_is_learned_from_again() -> None:
    assert await learned(page(5), page(6), page(1), page(2)) == [USUAL, None, USUAL]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "many"])
async def test_a_page_with_what_is_no_number_is_left_out_and_the_next_has_both_windows(name: str, value: str) -> None:
    assert await learned(page(1), page(2, **{name: value}), page(3)) == [None, USUAL]


@pytest.mark.parametrize("broken", ["", "<html>", "vllm:num_requests_running NaN\nvllm:num_requests_waiting 0\n"])
async def test_no_page_at_all_teaches_nothing(broken: str) -> None:
    assert await learned(page(1), broken, page(3)) == [None, USUAL]
