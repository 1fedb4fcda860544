"""A cold start's expected time: learned, robust, and never running backwards."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.recommender import remaining, start_eta
from pilotlight.recommender.eta import PHASES

seconds = st.floats(0, 1e5)
etas = st.fixed_dictionaries(dict.fromkeys(PHASES, seconds))
phases = st.sampled_from(PHASES)


def test_without_history_a_larger_model_is_expected_to_take_longer() -> None:
    small, large = start_eta((), 10**8), start_eta((), 10**11)

    assert large["fetch"] > small["fetch"]
    assert large["load"] > small["load"]
    assert large["import"] == small["import"]


def test_one_outlier_does_not_move_the_expectation() -> None:
    history = [{"import": 6.0}, {"import": 600.0}, {"import": 6.5}, {"import": 7.0}]

    assert start_eta(history, 0)["import"] == pytest.approx(6.75)


def test_only_the_last_five_starts_count() -> None:
    history = [{"load": 100.0}] * 20 + [{"load": 2.0}] * 5

    assert start_eta(history, 0)["load"] == 2.0


def test_a_phase_without_history_keeps_its_prior() -> None:
    assert start_eta([{"load": 1.0}], 0)["import"] == start_eta((), 0)["import"]


def test_nonsense_in_the_history_is_passed_over() -> None:
    history = [{"load": float("nan")}, {"load": -1.0}, {"load": float("inf")}, {"load": 3.0}]

    assert start_eta(history, 0)["load"] == 3.0


def test_at_the_expected_pace_the_remainder_is_what_is_left() -> None:
    eta = {"schedule": 0.0, "fetch": 10.0, "import": 5.0, "load": 2.0, "warmup": 1.0}

    assert remaining(eta, "fetch", 4.0, 0.4) == pytest.approx(6.0 + 8.0)
    assert remaining(eta, "fetch", 4.0, None) == pytest.approx(6.0 + 8.0)


def test_a_slow_pace_raises_the_remainder() -> None:
    eta = {"fetch": 10.0}

    assert remaining(eta, "fetch", 50.0, 0.5) > 20.0


def test_ready_has_nothing_left_and_an_unknown_phase_everything() -> None:
    eta = start_eta((), 10**9)

    assert remaining(eta, "ready", 3.0, None) == 0.0
    assert remaining(eta, "waiting", 3.0, None) == pytest.approx(sum(eta.values()))


@given(etas, phases, st.floats(-10, 1e6), st.none() | st.floats(-1, 2))
def test_the_remainder_is_never_negative(
    eta: dict[str, float], phase: str, elapsed: float, progress: float | None
) -> None:
    assert remaining(eta, phase, elapsed, progress) >= 0.0


@given(etas, phases, seconds, seconds)
def test_without_progress_the_remainder_falls_with_time(
    eta: dict[str, float], phase: str, earlier: float, more: float
) -> None:
    assert remaining(eta, phase, earlier + more, None) <= remaining(eta, phase, earlier, None) + 1e-6


@given(etas, phases, seconds, st.floats(0, 1), st.floats(0, 1))
def test_progress_shortens_the_remainder(
    eta: dict[str, float], phase: str, elapsed: float, one: float, other: float
) -> None:
    low, high = sorted((one, other))

    assert remaining(eta, phase, elapsed, high) <= remaining(eta, phase, elapsed, low) + 1e-6


@given(etas, st.data())
def test_a_later_phase_never_has_more_left_than_the_start_of_an_earlier_one(
    eta: dict[str, float], data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, len(PHASES) - 2))

    assert remaining(eta, PHASES[first + 1], 0.0, None) <= remaining(eta, PHASES[first], 0.0, None) + 1e-6


@given(st.lists(st.dictionaries(phases, seconds)), st.integers(0, 10**13))
def test_every_phase_has_an_expectation_that_is_not_negative(history: list[dict[str, float]], size: int) -> None:
    eta = start_eta(history, size)

    assert tuple(eta) == PHASES
    assert all(value >= 0.0 for value in eta.values())
