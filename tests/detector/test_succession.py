"""A new model serves when it is better on held-back windows, and not before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pilotlight.detector.model import Columns, Model, Profile
from pilotlight.detector.network import Network
from pilotlight.detector.scaling import Scaling
from pilotlight.detector.succession import HeldBack, succeeds, unlikeliness

CURRENT = HeldBack(unlikeliness=1.0, incidents_found=3, false_alarms=2)


@pytest.mark.parametrize(
    ("changes", "serves"),
    [
        pytest.param({}, False, id="an equal one does not"),
        pytest.param({"unlikeliness": 0.9}, True, id="one that expects windows better does"),
        pytest.param({"unlikeliness": 0.9, "false_alarms": 3}, False, id="not with more false alarms"),
        pytest.param({"unlikeliness": 0.9, "incidents_found": 2}, False, id="nor with fewer incidents found"),
        pytest.param({"unlikeliness": 1.1, "incidents_found": 4}, True, id="one that finds more does"),
        pytest.param({"unlikeliness": 1.1, "incidents_found": 4, "false_alarms": 3}, False, id="unless it cries more"),
        pytest.param({"unlikeliness": float("nan")}, False, id="what is not known is not better"),
    ],
)
def test_who_serves(changes: dict[str, float], serves: bool) -> None:
    assert succeeds(replace(CURRENT, **changes), CURRENT) is serves  # type: ignore[arg-type]


def blind(width: float, spread: float) -> tuple[Model, Profile]:
    """Expects the median of its one metric, whatever it is shown."""
    shapes = {"enter": (2, 2), "encode": (2, 2), "code": (2, 2), "leave": (2, 1), "decode": (2, 2), "mean": (1, 2)}
    weights: dict[str, np.typing.NDArray[np.float32]] = {}
    for name, shape in shapes.items():
        weights[f"{name}.weight"] = np.zeros(shape, dtype=np.float32)
        weights[f"{name}.bias"] = np.zeros(shape[0], dtype=np.float32)
    model = Model(("x",), Columns(judged=(0,)), Network(weights))
    return model, Profile(Scaling(np.zeros(1), np.array([width])), np.zeros(1), np.array([spread]))


def test_the_right_spread_is_likelier_than_a_wrong_one_and_the_scale_does_not_matter() -> None:
    rows = np.random.default_rng(1).normal(scale=2.0, size=(5000, 1))
    right, wide, narrow, scaled = (unlikeliness(*blind(*one), rows) for one in ((1, 2), (1, 4), (1, 1), (4, 0.5)))

    assert right < min(wide, narrow)
    assert scaled == pytest.approx(right)
    assert np.isnan(unlikeliness(*blind(1, 1), np.full((3, 1), np.nan)))
