"""Areas, events and false alarms against cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotlight.detector.evaluation.measures import auc_pr, judge, softened, spans, trailing_mean, vus_pr


def flags(text: str) -> np.typing.NDArray[np.bool_]:
    """`..##.`: one sign per row."""
    return np.array([sign == "#" for sign in text])


def scores(*values: float) -> np.typing.NDArray[np.float64]:
    return np.array(values, dtype=float)


def test_spans_are_half_open_and_reach_both_ends() -> None:
    assert spans(flags("##..#.#")) == [(0, 2), (4, 5), (6, 7)]
    assert spans(flags("....")) == []


@pytest.mark.parametrize(
    ("alarms", "labels", "delays", "false_alarms", "false_runs"),
    [
        pytest.param(".....", "..##.", (), 0, 0, id="silence finds nothing"),
        pytest.param("..#..", "..##.", (0,), 0, 0, id="found at once"),
        pytest.param("...#.", "..##.", (1,), 0, 0, id="found a row late"),
        pytest.param("#..#.", "..##.", (1,), 1, 1, id="an alarm beside is false"),
        pytest.param("#.#...", "....#.", (), 2, 2, id="two runs are two alarms"),
        pytest.param("#.......", ".#.#....", (), 0, 0, id="an alarm that ends where an event begins is not false"),
        pytest.param(
            "########", "......#.", (0,), 1, 0, id="always on: hours are counted, less one on each side of the event"
        ),
        pytest.param("#####...", ".......#", (), 2, 1, id="one that stays up counts every started hour"),
        pytest.param("..#####.", "..##....", (0,), 0, 0, id="the hour after an event is not counted"),
    ],
)
def test_alarms_are_judged_by_events_and_started_hours(
    alarms: str, labels: str, delays: tuple[int, ...], false_alarms: int, false_runs: int
) -> None:
    judged = judge(flags(alarms), flags(labels), rows_per_hour=3)

    assert (judged.delays, judged.false_alarms, judged.false_runs) == (delays, false_alarms, false_runs)
    assert judged.events == len(spans(flags(labels)))


def test_average_precision_by_hand() -> None:
    # Ranks: hit, miss, hit: 1/2 * 1 + 1/2 * 2/3.
    assert auc_pr(scores(0.9, 0.8, 0.7, 0.1), flags("#.#.")) == pytest.approx(1 / 2 + 1 / 3)


def test_equal_scores_are_one_step_whatever_their_order() -> None:
    assert auc_pr(scores(1, 1, 1, 1), flags("#...")) == pytest.approx(0.25)
    assert auc_pr(scores(1, 1, 1, 1), flags("...#")) == pytest.approx(0.25)


def test_nothing_labelled_has_no_area() -> None:
    assert np.isnan(auc_pr(scores(1, 2), flags("..")))
    assert np.isnan(vus_pr(scores(1, 2), flags("..")))


def test_labels_fall_off_by_the_root_of_the_distance() -> None:
    soft = softened(flags("...#...."), 4)

    near, far = np.sqrt(1 - 1 / 4), np.sqrt(1 - 2 / 4)
    assert soft == pytest.approx([0, far, near, 1, near, far, 0, 0])


def test_without_tolerance_the_volume_is_the_area_under_range_precision_and_recall() -> None:
    # Two events, one row each. Ranks: event, nothing, event, nothing. Recall is weighted by the events touched:
    # 1/2 * 1/2, the same, 1 * 1, 1; precision 1, 1/2, 2/3, 1/2. Area: 1/4 * 1 + 3/4 * 2/3.
    labels, ranked = flags("#..#"), scores(4, 3, 1, 2)

    assert vus_pr(ranked, labels, window=0, thresholds=4) == pytest.approx(1 / 4 + 3 / 4 * 2 / 3)


def test_a_near_miss_is_worth_something_only_within_the_tolerance() -> None:
    labels = flags("." * 20 + "##" + "." * 20)
    near, far = np.zeros(42), np.zeros(42)
    near[22], far[40] = 1, 1

    assert vus_pr(near, labels, window=8) > vus_pr(far, labels, window=8)
    assert vus_pr(near, labels, window=0) == pytest.approx(vus_pr(far, labels, window=0))


@settings(max_examples=30)
@given(st.data())
def test_areas_do_not_depend_on_the_scale_of_scores_and_stay_within_bounds(data: st.DataObject) -> None:
    size = data.draw(st.integers(4, 40))
    labels = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    ranked = np.array(data.draw(st.lists(st.integers(0, 9), min_size=size, max_size=size)), dtype=float)
    labels[0] = True

    for area in (auc_pr, vus_pr):
        value = area(ranked, labels)
        assert 0 <= value <= 1 + 1e-9
        assert area(3 * ranked + 7, labels) == pytest.approx(value)


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.lists(st.booleans(), min_size=1, max_size=30))
def test_more_alarms_never_find_fewer_events(one: list[bool], other: list[bool]) -> None:
    size = min(len(one), len(other))
    labels, fewer = np.array(one[:size]), np.array(other[:size])
    more = fewer | (np.arange(size) % 2 == 0)

    assert len(judge(more, labels, 6).delays) >= len(judge(fewer, labels, 6).delays)


def test_a_trailing_mean_is_of_the_rows_that_there_are() -> None:
    assert trailing_mean(np.array([1.0, 3.0, 8.0]), 2).tolist() == [1.0, 2.0, 5.5]
