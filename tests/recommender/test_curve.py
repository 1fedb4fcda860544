"""A latency's curve: exact on exact lines, unmoved by order, rising with the load, and honest about what it knows."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.recommender.curve import Curve, End, NoMeasurement, Point, start
from pilotlight.recommender.fitting import fit

LOADS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
costs = st.floats(1e-4, 1.0)
slopes = st.floats(1e-6, 1e-2)
loads = st.floats(1, 1e4)
points = st.lists(st.builds(Point, load=loads, seconds=st.floats(1e-4, 1e2)), min_size=1, max_size=12)


def line(constant: float, slope: float, at: tuple[float, ...] = LOADS) -> list[Point]:
    return [Point(load, constant + slope * load) for load in at]


def shaken(size: float) -> list[Point]:
    """A line with a relative error of this size, up and down in turn."""
    return [Point(p.load, p.seconds * (1 + size * (-1) ** place)) for place, p in enumerate(line(0.01, 0.0002))]


@given(costs, slopes)
def test_a_line_is_recovered(constant: float, slope: float) -> None:
    curve = fit(line(constant, slope))

    assert [curve.at(load).value for load in LOADS] == pytest.approx([constant + slope * load for load in LOADS], 1e-3)


@given(costs, slopes)
def test_two_points_are_enough_for_a_line(constant: float, slope: float) -> None:
    curve = fit(line(constant, slope, at=(1.0, 256.0)))

    assert curve.at(64.0).value == pytest.approx(constant + slope * 64.0, rel=1e-2)


def test_a_bend_is_a_square_root_and_a_line_stays_a_line() -> None:
    bent = fit(Point(load, 0.005 + 0.002 * math.sqrt(load)) for load in LOADS)

    assert "root" in bent.terms
    assert bent.at(90.0).value == pytest.approx(0.005 + 0.002 * math.sqrt(90.0), rel=1e-3)
    assert "root" not in fit(line(0.01, 0.0002)).terms


@given(points, st.randoms(use_true_random=False))
def test_the_order_of_measurements_does_not_matter(given_points: list[Point], random: Random) -> None:
    mixed = list(given_points)
    random.shuffle(mixed)

    assert fit(mixed).at(50.0) == fit(given_points).at(50.0)


@given(points, st.booleans())
def test_more_load_is_never_faster(given_points: list[Point], with_prior: bool) -> None:
    curve = fit(given_points, (lambda load: 0.01 + 0.0001 * load) if with_prior else None)
    values = [curve.at(load).value for load in (0.5, *LOADS, 1e5)]

    assert values == sorted(values)


@given(points, loads, st.booleans())
def test_every_answer_is_a_number_inside_its_interval(given_points: list[Point], load: float, with_prior: bool) -> None:
    estimate = fit(given_points, (lambda x: 0.01 + 0.0001 * x) if with_prior else None).at(load)

    assert 0 < estimate.low <= estimate.value <= estimate.high < math.inf
    assert estimate.value > 0


@given(st.floats(0.05, 0.15), st.floats(1.5, 2.0))
def test_intervals_widen_with_the_noise(size: float, more: float) -> None:
    def width(curve: Curve) -> float:
        estimate = curve.at(48.0)
        return (estimate.high - estimate.low) / estimate.value

    assert width(fit(shaken(size * more))) > width(fit(shaken(size))) > width(fit(shaken(0.0)))


def test_intervals_narrow_with_measurements_and_widen_away_from_them() -> None:
    few, many = fit(line(0.01, 0.0002, at=(8.0, 32.0))), fit(line(0.01, 0.0002))

    assert many.at(16.0).high < few.at(16.0).high
    assert few.at(512.0).high / few.at(512.0).value > few.at(16.0).high / few.at(16.0).value


@given(st.integers(0, 4), st.lists(st.sampled_from([0.1, 0.3, 1.0, 4.0, 30.0]), min_size=4, max_size=4))
def test_a_fifth_of_outliers_is_not_believed_where_they_lie_among_others(first: int, factors: list[float]) -> None:
    clean = line(0.01, 0.0002, at=tuple(range(4, 84, 4)))
    wrong = dict(zip(range(first, 20, 5), factors, strict=True))
    dirty = [Point(p.load, p.seconds * wrong.get(place, 1.0)) for place, p in enumerate(clean)]

    assert fit(dirty).at(40.0).value == pytest.approx(0.018, rel=0.05)


@pytest.mark.parametrize("bad", [Point(8, math.nan), Point(math.nan, 1), Point(8, -1), Point(0, 1), Point(8, math.inf)])
def test_what_is_no_measurement_is_passed_over(bad: Point) -> None:
    assert fit([*line(0.01, 0.0002), bad]).at(8.0) == fit(line(0.01, 0.0002)).at(8.0)


def test_a_prior_alone_is_the_curve_within_a_factor_of_two() -> None:
    estimate = start(lambda load: 0.01 * load).at(8.0)

    assert (estimate.low, estimate.value, estimate.high) == pytest.approx((0.04, 0.08, 0.16))


@given(st.floats(0.2, 5.0), st.sampled_from(LOADS))
def test_one_measurement_scales_the_prior(factor: float, load: float) -> None:
    def prior(x: float) -> float:
        return 0.01 + 0.0005 * x

    curve = fit([Point(load, factor * prior(load))], prior)

    assert [curve.at(x).value for x in LOADS] == pytest.approx([factor * prior(x) for x in LOADS], rel=1e-6)


def test_measurements_outweigh_a_prior_of_the_wrong_shape() -> None:
    curve = fit(line(0.01, 0.0002), lambda load: 0.01 + 0.002 * math.sqrt(load))

    assert [curve.at(load).value for load in LOADS] == pytest.approx([0.01 + 0.0002 * load for load in LOADS], rel=0.05)


@pytest.mark.parametrize("nothing", [[], [Point(1, math.nan)]])
def test_nothing_to_start_from_is_said(nothing: list[Point]) -> None:
    with pytest.raises(NoMeasurement, match="measure one point"):
        fit(nothing)


@given(costs, slopes, st.floats(0.001, 4.0), st.sampled_from(["low", "value", "high"]), st.floats(0.5, 2.0))
def test_the_largest_load_within_a_bound_keeps_it(
    constant: float, slope: float, bound: float, end: End, unit: float
) -> None:
    curve = fit(line(constant, slope))
    most = curve.within(bound, 256, end, unit)

    def reached(requests: int) -> float:
        return float(getattr(curve.at(requests * unit), end))

    assert most == 0 or reached(most) <= bound
    assert most == 256 or reached(most + 1) > bound


def test_a_bound_below_the_curve_is_never_kept() -> None:
    assert fit(line(0.01, 0.0002)).within(0.001, 256) == 0
