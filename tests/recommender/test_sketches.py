"""Sketches keep quantiles within their accuracy, add up, forget, and read back what they wrote."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.recommender.sketches import ACCURACY, LARGEST, RequestLengths, Served, Sketch

TOKENS = st.integers(0, 200_000)
MANY = st.lists(TOKENS, min_size=1, max_size=200)
SHARE = st.floats(0.0, 1.0)


def exact(values: list[int], share: float) -> int:
    """The smallest value that the share does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@given(MANY, SHARE)
def test_every_quantile_is_within_the_accuracy(values: list[int], share: float) -> None:
    assert Sketch().plus(values).at(share) == pytest.approx(exact(values, share), rel=ACCURACY * 1.001)


@given(MANY, MANY)
def test_sketches_of_parts_add_up_to_the_sketch_of_all(one: list[int], other: list[int]) -> None:
    assert Sketch().plus(one) + Sketch().plus(other) == Sketch().plus(one + other)


@given(MANY, st.floats(0.01, 100.0))
def test_what_is_scaled_down_weighs_less_and_reads_back_the_same(values: list[int], share: float) -> None:
    scaled = Sketch().plus(values).times(share)

    assert scaled.count == pytest.approx(share * len(values))
    assert Sketch.from_json(json.loads(json.dumps(scaled.to_json()))) == scaled


def test_a_distribution_that_changes_is_followed() -> None:
    before = RequestLengths().plus([Served(100, 10)] * 5000, memory=1000)
    after = before.plus([Served(4000, 10)] * 3000, memory=1000)

    assert after.prompt.at(0.5) == pytest.approx(4000, rel=ACCURACY)
    assert after.total.at(0.5) == pytest.approx(4010, rel=ACCURACY)
    assert before.prompt.at(0.5) == pytest.approx(100, rel=ACCURACY)


def test_a_request_is_as_long_as_it_asked_to_become() -> None:
    lengths = RequestLengths().plus([Served(100, 10, asked=3000), Served(100, 10, asked=5), Served(100, 10)])

    assert [lengths.total.at(share) for share in (0.5, 1.0)] == pytest.approx([110, 3100], rel=ACCURACY)
    assert lengths.answer.at(1.0) == pytest.approx(10, rel=ACCURACY)


def test_it_stays_small_whatever_comes() -> None:
    sketch = Sketch().plus(int(1.001**power) for power in range(40_000))

    assert len(sketch.buckets) <= 1077
    assert sketch.at(1.0) == pytest.approx(LARGEST, rel=ACCURACY)
    assert len(json.dumps(sketch.to_json())) < 30_000


@pytest.mark.parametrize(
    "content",
    [
        None,
        {},
        {"zeros": 0.0},
        {"zeros": 0.0, "buckets": [], "more": 1},
        {"zeros": math.nan, "buckets": []},
        {"zeros": -1.0, "buckets": []},
        {"zeros": 0.0, "buckets": [[-1, 1.0]]},
        {"zeros": 0.0, "buckets": [[10**9, 1.0]]},
        {"zeros": 0.0, "buckets": [[1, math.inf]]},
        {"zeros": 0.0, "buckets": [[1, 1.0], [1, 1.0]]},
        {"zeros": 0.0, "buckets": [1]},
        {"zeros": True, "buckets": []},
    ],
)
def test_what_no_sketch_has_written_is_refused(content: object) -> None:
    with pytest.raises(ValueError, match="sketch"):
        Sketch.from_json(content)
