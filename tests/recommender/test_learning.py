"""Two looks at an engine's counters are one observation, or none where they cannot be trusted."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.recommender.learning import Counters, learned, pooled, window
from pilotlight.recommender.performance import Observation

BEFORE = Counters(
    at=100.0,
    looks=10,
    in_flight=40,
    prompts=20,
    prompt_tokens=4000,
    first_token_seconds=3.0,
    gaps=2000,
    gap_seconds=60.0,
)
AFTER = Counters(
    at=105.0,
    looks=15,
    in_flight=80,
    prompts=30,
    prompt_tokens=9000,
    first_token_seconds=5.0,
    gaps=3000,
    gap_seconds=100.0,
)


def test_a_window_is_the_means_of_what_came_in_it() -> None:
    assert window(BEFORE, AFTER) == Observation(batch=8.0, prompt=500.0, itl=0.04, ttft=0.2)


@pytest.mark.parametrize("name", [name for name in vars(BEFORE) if name != "at"])
def test_an_engine_that_was_started_anew_gives_nothing(name: str) -> None:
    assert window(BEFORE, replace(AFTER, **{name: 0.0})) is None


@pytest.mark.parametrize("at", [100.0, 99.0, 161.0, math.nan, math.inf])
def test_looks_at_the_wrong_time_give_nothing(at: float) -> None:
    assert window(BEFORE, replace(AFTER, at=at)) is None


@pytest.mark.parametrize("name", ["gaps", "gap_seconds"])
@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_is_not_told_or_no_number_leaves_the_rest(name: str, value: float | None) -> None:
    changed: dict[str, Any] = {name: value}

    assert window(BEFORE, replace(AFTER, **changed)) == Observation(8.0, 500.0, None, 0.2)
    assert window(replace(BEFORE, **changed), AFTER) == Observation(8.0, 500.0, None, 0.2)


def test_no_prompt_in_the_window_leaves_the_time_between_tokens() -> None:
    same = {"prompts": 20.0, "prompt_tokens": 4000.0, "first_token_seconds": 3.0}

    assert window(BEFORE, replace(AFTER, **same)) == Observation(8.0, 0.0, 0.04, None)


def test_an_idle_engine_gives_nothing() -> None:
    assert window(BEFORE, replace(BEFORE, at=105.0)) is None


COUNT = st.none() | st.floats() | st.floats(0, 1e6)
ANY = st.builds(Counters, st.floats(), st.floats(), st.floats(), COUNT, COUNT, COUNT, COUNT, COUNT)


@given(ANY, ANY)
def test_whatever_engines_count_an_observation_can_be_used(before: Counters, after: Counters) -> None:
    seen = window(before, after)
    if seen is not None:
        assert 0 < seen.batch < math.inf
        assert seen.itl is None or 0 < seen.itl < math.inf
        assert seen.ttft is None or (0 < seen.ttft < math.inf and 0 < seen.prompt < math.inf)
        assert seen.itl is not None or seen.ttft is not None


def test_replicas_of_a_revision_are_taken_together() -> None:
    two = pooled([Observation(4.0, 100.0, 0.02, None), Observation(8.0, 0.0, 0.04, None)])

    assert two == Observation(6.0, 100.0, 0.03, None)


def test_learning_begins_with_both_latencies() -> None:
    assert learned(None, Observation(4.0, 100.0, 0.02, None)) is None
    first = learned(None, Observation(4.0, 100.0, 0.02, 0.5))

    assert first is not None
    assert first.itl_at(4).value == pytest.approx(0.02, rel=0.05)
    assert first.ttft_at(100, 4).value == pytest.approx(0.5, rel=0.05)
