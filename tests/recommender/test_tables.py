"""Priors from operator tables, where their package is installed."""

import pytest
from tests.recommender.asking import known_shapes

from pilotlight.recommender import roofline, tables
from pilotlight.recommender.accelerators import builtin
from pilotlight.recommender.roofline import Setup

SETUP = Setup(known_shapes()["Qwen/Qwen3-32B"], builtin().find("h100"), prompt=1000, answer=500, tensor_parallel=2)


def test_without_the_package_there_is_no_prior() -> None:
    if tables.installed():
        pytest.skip("aiconfigurator-core is installed")

    assert tables.itl_prior(SETUP, "Qwen/Qwen3-32B", "h100_sxm", "", (1, 1)) is None


def test_a_prior_rises_and_is_near_the_roofline() -> None:
    pytest.importorskip("aiconfigurator_core", reason="needs the extra `tables`")
    prior = tables.itl_prior(SETUP, "Qwen/Qwen3-32B", "h100_sxm", "", (1, 1))
    assert prior is not None
    values = [prior(batch) for batch in (1, 3, 8, 64, 500)]

    assert values == sorted(values)
    assert values[3] == pytest.approx(roofline.itl(SETUP, 64), rel=0.5)


def test_a_model_that_the_tables_lack_has_no_prior() -> None:
    assert tables.itl_prior(SETUP, "some/one", "h100_sxm", "", (1, 1)) is None
