"""Verdicts on many revisions at once, and what they name."""

from __future__ import annotations

import numpy as np
import pytest

from pilotlight.detector.alarming import Alarming
from pilotlight.detector.detecting import Detector
from pilotlight.detector.metrics import Role
from pilotlight.detector.model import Columns, Model, Profile, prior
from pilotlight.detector.network import Network
from pilotlight.detector.scaling import Scaling
from pilotlight.detector.values import Health

Rows = np.typing.NDArray[np.float64]

NAMES = ("arrivals", "waiting", "kv_usage", "itl_p95")
ROLES = {"arrivals": Role.LOAD, "waiting": Role.PRESSURE, "kv_usage": Role.PRESSURE, "itl_p95": Role.HEALTH}
USUAL = [1.0, 2.0, 0.5, 0.1]


def nothing_expected() -> Model:
    """A network whose every weight is 0 expects the usual of every metric, whatever the load."""
    shapes = {"enter": (4, 7), "encode": (4, 4), "code": (4, 4), "leave": (4, 3), "decode": (4, 4), "mean": (3, 4)}
    weights: dict[str, np.typing.NDArray[np.float32]] = {}
    for name, shape in shapes.items():
        weights[f"{name}.weight"] = np.zeros(shape, dtype=np.float32)
        weights[f"{name}.bias"] = np.zeros(shape[0], dtype=np.float32)
    return Model(NAMES, Columns(judged=(1, 2, 3), load=(0,)), Network(weights))


def profile(factor: float = 1.0) -> Profile:
    scaling = Scaling(factor * np.array(USUAL), 0.1 * factor * np.array(USUAL))
    return Profile(scaling, np.zeros(3), np.ones(3), usual=0.0, level=2.0)


def rows(count: int = 2, **changed: float) -> Rows:
    """Usual rows; `changed` in the first revision."""
    made = np.tile(USUAL, (count, 1)) * 1.1
    for name, value in changed.items():
        made[0, NAMES.index(name)] = value
    return made


def verdicts(windows: list[Rows], count: int = 2) -> list[list[Health]]:
    detector = Detector(nothing_expected(), [profile()] * count, Alarming(0.25), ROLES)
    return [[one.health for one in detector.step(window)] for window in windows]


def test_what_lasts_is_trouble_and_only_where_it_is() -> None:
    normal, odd = rows(), rows(itl_p95=0.5)
    found = verdicts([normal] * 4 + [odd] * 4)

    assert [one[0] for one in found[:4]] == [Health.NORMAL] * 4
    assert found[-1] == [Health.DEGRADED, Health.NORMAL]


def test_pressure_is_overload_and_is_named() -> None:
    detector = Detector(nothing_expected(), [profile()] * 2, Alarming(0.25), ROLES)
    odd = rows(waiting=20, kv_usage=0.9)
    found = [detector.step(odd)[0] for _ in range(4)][-1]

    assert found.health is Health.OVERLOAD
    assert list(found.attribution)[:2] == ["waiting", "kv_usage"]
    assert found.score > found.threshold == 2.0


def test_much_load_alone_is_normal() -> None:
    assert verdicts([rows(arrivals=1e6)] * 5)[-1] == [Health.NORMAL] * 2


def test_little_pressure_is_underload() -> None:
    assert verdicts([rows(waiting=1, kv_usage=0.2)] * 3)[-1] == [Health.UNDERLOAD, Health.NORMAL]


def test_what_falls_is_told_from_what_rises() -> None:
    detector = Detector(nothing_expected(), [profile()], Alarming(0.25), ROLES)
    found = [detector.step(rows(1, itl_p95=0.02)) for _ in range(4)][-1][0]

    assert found.health is Health.DEGRADED
    assert found.attribution["itl_p95"] < -0.9


def test_what_is_unknown_is_neither_trouble_nor_little_work() -> None:
    nothing = np.full((2, 4), np.nan)

    assert verdicts([rows()] * 3 + [nothing] * 3)[-1] == [Health.NORMAL] * 2
    assert verdicts([rows(waiting=np.nan, kv_usage=np.nan)] * 3)[-1] == [Health.NORMAL] * 2


def test_a_revision_without_a_history_has_the_median_of_the_others() -> None:
    found = prior([profile(1), profile(2), profile(9)])

    assert found.scaling.centre == pytest.approx(2 * np.array(USUAL))
    assert found.level == 2.0
    with pytest.raises(ValueError, match="at least one"):
        prior([])
