"""The evaluation: no leak from what is left out, exact on exact data, its parts as they are defined."""

from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.recommender import tables
from pilotlight.recommender.accelerators import builtin
from pilotlight.recommender.curve import Estimate, Point
from pilotlight.recommender.evaluation import evaluate, left_out, prior_of, spearman, straight_line
from pilotlight.recommender.fitting import fit
from pilotlight.recommender.measurements import SETTINGS, DataRefused, Measurement

SIZES = (1.0, 4.0, 16.0, 64.0, 256.0)


def settings(**changes: str) -> tuple[str, ...]:
    usual = {
        "backend_version": "0.19.0",
        "model_path": "Qwen/Qwen3-32B",
        "system": "h100_sxm",
        "precision": "fp8",
        "isl": "1024",
        "osl": "512",
        "gemm_quant_mode": "fp8",
        "tp_size": "2",
    }
    return tuple({**usual, **changes}.get(name, "") for name in SETTINGS)


def measured(batch: float, **changes: str) -> Measurement:
    return Measurement(settings(**changes), batch, ttft=0.05 + 0.002 * batch, itl=0.01 + 0.0002 * batch)


GROUP = [measured(size) for size in SIZES]


def fitted(points: Any, load: float) -> Estimate:
    return fit(points, prior_of(GROUP[0], "itl", builtin())).at(load)


@given(st.sampled_from(SIZES), st.sampled_from([1e-6, 1e6]), st.booleans())
def test_what_is_left_out_changes_nothing_in_its_prediction(size: float, poison: float, repeated: bool) -> None:
    group = [*GROUP, replace(measured(size), itl=0.011)] if repeated else GROUP
    poisoned = [replace(row, itl=poison) if row.batch == size else row for row in group]
    before = [trial.estimate for trial in left_out(group, "itl", fitted) if trial.measured in _of(group, size)]
    after = [trial.estimate for trial in left_out(poisoned, "itl", fitted) if trial.measured == poison]

    assert len(after) == 1 + repeated
    assert after == before


def _of(group: list[Measurement], size: float) -> set[float]:
    return {row.itl for row in group if row.batch == size}


def test_a_method_sees_all_other_batch_sizes_and_none_of_its_own() -> None:
    asked: list[tuple[set[float], float]] = []

    def method(points: Any, load: float) -> Estimate:
        asked.append(({point.load for point in points}, load))
        return Estimate(1, 0, 2)

    trials = left_out([*GROUP, measured(16.0)], "itl", method)

    assert asked == [(set(SIZES) - {size}, size) for size in SIZES]
    assert [trial.end for trial in trials] == [True, False, False, False, False, True]


def test_a_straight_line_is_exact_on_a_line_and_sure_of_it_with_three_points() -> None:
    points = [Point(size, 0.01 + 0.0002 * size) for size in SIZES]

    assert straight_line(points[:2], 100).value == pytest.approx(0.03)
    assert straight_line(points[:2], 100).high == float("inf")
    assert straight_line(points, 100).high == pytest.approx(0.03)


def test_the_report_has_every_figure_and_lines_have_no_error() -> None:
    report = cast("dict[str, Any]", evaluate(GROUP, builtin()))

    assert report["linear_baseline"]["itl"]["median_error"] == pytest.approx(0, abs=1e-9)
    assert report["itl"]["median_error"] < 0.02
    assert report["itl"]["coverage95"] == 1.0
    assert (report["itl"]["count"], report["itl"]["interior"]["count"], report["itl"]["ends"]["count"]) == (5, 3, 2)
    assert report["one_point"]["count"] == 20
    assert report["one_point"]["with_aiconfigurator"]["installed"] == tables.installed()
    assert report["rank"]["by_accelerator"].keys() == {"h100_sxm"}
    assert report["ttft"]["median_error"] < 0.1


def test_unknown_models_are_evaluated_without_a_prior() -> None:
    report = cast("dict[str, Any]", evaluate([measured(size, model_path="some/one") for size in SIZES], builtin()))

    assert report["itl"]["median_error"] < 0.01
    assert (report["one_point"]["median_error"], report["one_point"]["count"]) == (None, 0)
    assert report["rank"]["spearman_median"] is None
    assert report["data"]["groups_with_prior"] == 0


def test_groups_that_are_too_small_are_refused() -> None:
    with pytest.raises(DataRefused, match="3 batch sizes"):
        evaluate([measured(1), measured(1), measured(2)], builtin())


@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=20, unique=True))
def test_rank_correlation_is_one_with_itself_and_minus_one_reversed(values: list[float]) -> None:
    assert spearman(values, values) == pytest.approx(1.0)
    assert spearman(values, [-value for value in values]) == pytest.approx(-1.0)


def test_ties_share_their_rank() -> None:
    assert spearman([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(0.9486833)
