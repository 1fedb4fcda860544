"""The evaluation as a whole, on a small set with incidents that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pilotlight.detector.evaluation.protocol import NAMES, evaluate
from pilotlight.detector.evaluation.series import Series, SeriesRefused, read_folder

FIGURES = {"event_recall", "event_recall_std", "false_alarms_per_day", "vus_pr", "auc_pr", "delay_windows"}
ROWS = 600


def series(name: str, seed: int) -> Series:
    """Four metrics of one cause; in three incidents one of them leaves it."""
    generator = np.random.default_rng(seed)
    rows = np.sin(np.arange(2 * ROWS) / 20)[:, None] * [1, 2, -1, 0.5] + 0.05 * generator.normal(size=(2 * ROWS, 4))
    labels = np.zeros(ROWS, dtype=bool)
    for start in (100, 300, 500):
        labels[start : start + 12] = True
    rows[ROWS:][labels, seed % 4] += 1.5
    return Series(name, rows[:ROWS], rows[ROWS:], labels)


def test_every_method_has_every_figure_and_the_detector_finds_the_incidents() -> None:
    report = evaluate([series("a", 1), series("b", 2)], minutes_per_row=15, seeds=1)

    assert report["entities"] == 2
    assert report["events"] == 6
    assert report["methods"].keys() == set(NAMES) == report["same_alarms"].keys()
    assert all(figures.keys() >= FIGURES for figures in report["methods"].values())
    ours, chance = report["methods"]["pilotlight"], report["methods"]["random"]
    assert ours["event_recall"] == 1
    assert ours["false_alarms_per_day"] <= 1
    assert ours["vus_pr"] > 0.9 > 0.3 > chance["vus_pr"]
    assert report["methods"]["enova_rules"]["event_recall"] == 0


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        pytest.param({"train": np.ones((9, 2)), "test": np.ones((9, 2))}, "lacks test_label", id="no labels"),
        pytest.param({"test": np.ones((9, 3))}, r"\(rows, metrics\)", id="other metrics"),
        pytest.param({"test_label": np.ones(8)}, r"shape \(9,\)", id="other rows"),
        pytest.param({"train": np.full((9, 2), np.nan)}, "train holds", id="no numbers"),
        pytest.param({"train": np.full((9, 2), None)}, r"no readable \.npz", id="objects"),
    ],
)
def test_a_file_that_is_no_series_is_refused(arrays: dict[str, object], said: str, tmp_path: Path) -> None:
    whole = {"train": np.ones((9, 2)), "test": np.ones((9, 2)), "test_label": np.zeros(9)}
    if "lacks" in said:
        whole = {}
    np.savez(tmp_path / "one.npz", **(whole | arrays))  # type: ignore[arg-type]

    with pytest.raises(SeriesRefused, match=said):
        read_folder(tmp_path)


def test_a_folder_without_series_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SeriesRefused, match=r"no \.npz file"):
        read_folder(tmp_path)
    with pytest.raises(SeriesRefused, match="No such file"):
        read_folder(tmp_path / "none")
    (tmp_path / "one.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(SeriesRefused, match=r"no readable \.npz"):
        read_folder(tmp_path)
