"""A curve that follows: learns, forgets, is not fooled by single outliers, and notices a changed machine."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.recommender.curve import Curve, Point, start
from pilotlight.recommender.fitting import fit
from pilotlight.recommender.online import moved, observe

LOADS = (4.0, 16.0, 64.0)


def truth(load: float) -> float:
    return 0.01 + 0.0002 * load


def watched(curve: Curve, count: int, factor: float = 1.0, seed: int = 1) -> Curve:
    random = np.random.default_rng(seed)
    for load, noise in zip(random.choice(LOADS, count), random.normal(1, 0.02, count), strict=True):
        curve = observe(curve, Point(float(load), factor * truth(load) * float(noise)))
    return curve


@pytest.fixture(scope="module")
def settled() -> Curve:
    return watched(start(lambda load: 0.03 + 0.0001 * load), 60)


def test_the_first_measurement_scales_and_the_rest_shape(settled: Curve) -> None:
    assert [settled.at(load).value for load in LOADS] == pytest.approx([truth(load) for load in LOADS], rel=0.03)


def test_it_starts_from_a_measurement_where_there_is_no_prior() -> None:
    curve = watched(fit([Point(4.0, truth(4.0))]), 60)

    assert curve.at(32.0).value == pytest.approx(truth(32.0), rel=0.03)


@given(st.sampled_from([0.05, 0.3, 3.0, 50.0]), st.sampled_from(LOADS))
def test_one_outlier_changes_no_estimate(settled: Curve, factor: float, load: float) -> None:
    assert observe(settled, Point(load, factor * truth(load))).at(load) == settled.at(load)


@given(st.integers(0, 2**16))
def test_a_tenth_of_outliers_is_not_believed(seed: int) -> None:
    random, curve = np.random.default_rng(seed), fit([Point(load, truth(load)) for load in LOADS])
    for turn in range(50):
        load = float(random.choice(LOADS))
        wrong = float(random.choice((0.2, 8.0))) if turn % 10 == 9 else 1.0
        curve = observe(curve, Point(load, wrong * truth(load) * float(random.normal(1, 0.02))))

    assert curve.at(16.0).value == pytest.approx(truth(16.0), rel=0.05)


def test_a_change_that_is_known_from_elsewhere_is_followed_at_once(settled: Curve) -> None:
    changed = observe(settled, Point(16.0, 1.8 * truth(16.0)))

    assert changed.at(16.0) == settled.at(16.0)
    assert moved(changed).at(16.0).value == pytest.approx(1.8 * truth(16.0), rel=0.05)
    assert moved(settled) is settled


@given(st.sampled_from([0.4, 1.3, 2.0, 10.0]), st.sampled_from(LOADS))
def test_a_changed_machine_is_followed_after_a_few_measurements(settled: Curve, factor: float, load: float) -> None:
    curve = settled
    for _ in range(4):
        curve = observe(curve, Point(load, factor * truth(load)))

    assert curve.at(load).value == pytest.approx(factor * truth(load), rel=0.05)
    assert curve.at(64.0).value / curve.at(4.0).value == pytest.approx(truth(64.0) / truth(4.0), rel=0.1)


def test_outliers_on_both_sides_are_no_change(settled: Curve) -> None:
    curve = settled
    for factor in (3.0, 0.2, 3.0, 0.2, 3.0, 0.2):
        curve = observe(curve, Point(16.0, factor * truth(16.0)))

    assert curve.at(16.0) == settled.at(16.0)


def test_a_small_lasting_change_is_learned(settled: Curve) -> None:
    assert watched(settled, 300, factor=1.06).at(16.0).value == pytest.approx(1.06 * truth(16.0), rel=0.02)


@pytest.mark.parametrize("bad", [Point(8, math.nan), Point(math.inf, 1), Point(-8, 1), Point(8, 0)])
def test_what_is_no_measurement_changes_nothing(settled: Curve, bad: Point) -> None:
    assert observe(settled, bad) is settled


@given(st.lists(st.builds(Point, load=st.floats(1, 1e4), seconds=st.floats(1e-6, 1e4)), max_size=40))
def test_whatever_comes_every_answer_is_a_number(points: list[Point]) -> None:
    curve = start(lambda load: 0.01 + 0.0001 * load)
    for point in points:
        curve = observe(curve, point)
    estimate = curve.at(20.0)

    assert 0 <= estimate.low <= estimate.value <= estimate.high < math.inf
