"""The bounded solution against its definition, and the quantile against the published table."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pilotlight.recommender._regression import Vector, non_negative, student_t

entries = st.floats(-10, 10)


@given(arrays(np.float64, (6, 3), elements=entries), arrays(np.float64, 3, elements=entries))
def test_no_point_beside_the_mode_is_better(rows: Vector, information: Vector) -> None:
    precision = rows.T @ rows + np.eye(3)
    mode, _ = non_negative(precision, information)

    def density(x: Vector) -> float:
        return float(information @ x - x @ precision @ x / 2)

    assert mode.min() >= 0
    for step in (*np.eye(3), *-np.eye(3)):
        assert density(np.maximum(mode + 0.01 * step, 0)) <= density(mode) + 1e-9


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (10, 2.228), (30, 2.042), (1e9, 1.960)],
)
def test_the_quantile_is_that_of_the_tables(freedom: float, quantile: float) -> None:
    assert student_t(freedom) == pytest.approx(quantile, rel=0.003)
