"""A closed loop's requests, and what is made of one stream's moments."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.platform.calibration.engine import NAME, EngineSetup, running
from pilotlight.platform.calibration.injector import ClosedLoop, Requests, Stream, opened
from pilotlight.recommender.calibration import Sample


@given(st.integers(2, 10_000), st.integers(0, 10_000_000))
def test_answers_are_spread_evenly_about_their_mean_wherever_the_numbers_begin(answer: int, first: int) -> None:
    tokens = [Requests("m", 1, answer, 100).tokens(number) for number in range(first, first + 50)]

    assert fmean(tokens) == pytest.approx(answer, rel=0.05, abs=0.5)
    assert max(1, answer // 2) <= min(tokens)
    assert max(tokens) <= 1.5 * answer + 1
    assert answer < 8 or all(one != other for one, other in pairwise(tokens))


@given(st.integers(1, 64), st.integers(4, 200_000), st.integers(0, 1_000_000))
def test_prompts_have_their_length_and_ids_that_the_engine_knows(prompt: int, vocabulary: int, number: int) -> None:
    body = json.loads(Requests("m", prompt, 8, vocabulary).body(number))

    assert len(body["prompt"]) == prompt
    assert all(0 <= token < vocabulary for token in body["prompt"])


def test_no_two_prompts_begin_alike() -> None:
    requests = Requests("m", 16, 8, 50_000)

    assert len({tuple(json.loads(requests.body(number))["prompt"][:4]) for number in range(200)}) == 200


def _stream(*, loaded: bool, moments: list[tuple[int, float]], full_from: float) -> Sample:
    stream = Stream(sent=10.0, loaded=loaded)
    for tokens, now in moments:
        stream.saw(tokens, now, full=now >= full_from)
    return stream.sample()


STEADY = [(0, 10.1), (1, 10.5), (2, 10.7), (4, 11.1), (6, 11.5)]


def test_a_request_at_the_full_load_tells_both_latencies() -> None:
    sample = _stream(loaded=True, moments=STEADY, full_from=0.0)

    assert sample.ttft == pytest.approx(0.5)
    assert sample.itl == pytest.approx(0.2)


def test_of_one_that_was_there_before_only_what_came_at_the_full_load_counts() -> None:
    slower = [(1, 5.0), (2, 6.0), (3, 10.9), (4, 11.0), (8, 11.4)]

    sample = _stream(loaded=False, moments=slower, full_from=10.5)

    assert sample.ttft is None
    assert sample.itl == pytest.approx(0.1)


def test_few_tokens_tell_nothing_of_their_interval_and_no_token_tells_nothing() -> None:
    few = _stream(loaded=True, moments=STEADY[:3], full_from=0.0)

    assert few.ttft == pytest.approx(0.5)
    assert few.itl is None
    assert _stream(loaded=True, moments=[], full_from=0.0) == Sample()


async def test_a_request_counts_as_loaded_only_when_all_others_were_in_flight_however_short_answers_are(
    tmp_path: Path,
) -> None:
    """An answer ends long before the next stream's first token, so there are many more requests than streams."""
    load = 6
    options = {"max_num_seqs": load, "simulated_prefill_base_seconds": 0.02, "simulated_decode_base_seconds": 1e-4}
    setup = EngineSetup(Path("/nowhere"), options, kind="simulated")
    async with running(setup, tmp_path, 60.0, lambda _: None) as replica, opened() as upstream:
        loop = ClosedLoop(upstream, replica, Requests(NAME, 4, 2, 1000), load)
        await loop.run(60.0, lambda count: count >= 4 * load)

    loaded = [stream for stream in loop.streams if stream.loaded]
    assert len(loaded) > load
    for one in loaded:
        others = [other for other in loop.streams if other is not one and other.sent <= one.sent]
        assert sum(not other.ended or other.ended > one.sent for other in others) == load - 1
