"""`pilotlight detector evaluate`: figures as JSON and as a table, and bad folders refused with exit code 2."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest

METHODS = {"pilotlight", "pca", "knn", "max_z", "l2", "iforest", "mlp_ae", "random", "enova_rules"}


class Result(Protocol):
    """How a command ended."""

    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = np.random.default_rng(1).normal(size=(600, 3))
    labels = np.arange(300) // 10 == 12
    rows[300:][labels] += 8
    folder = tmp_path / "data"
    folder.mkdir()
    np.savez(folder / "one.npz", train=rows[:300], test=rows[300:], test_label=labels)
    return folder


def test_the_figures_are_written_and_shown(data: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "out.json"
    done = cli(
        "detector", "evaluate", "--data", str(data), "--json", str(out), "--minutes-per-row", "5", "--seeds", "1"
    )
    report = json.loads(out.read_text())

    assert done.code == 0
    assert (report["entities"], report["minutes_per_row"]) == (1, 5)
    assert report["methods"].keys() == METHODS
    assert report["methods"]["pilotlight"]["event_recall"] == 1
    shown = {line.split()[0]: line.split()[1] for line in done.out.splitlines()[1:]}
    assert shown == {name: f"{figures['event_recall']:.3f}" for name, figures in report["methods"].items()}


def test_a_folder_without_series_is_refused(tmp_path: Path, cli: Cli) -> None:
    done = cli("detector", "evaluate", "--data", str(tmp_path))

    assert (done.code, done.out) == (2, "")
    assert "no .npz file" in done.err


def test_a_file_that_cannot_be_written_is_told(data: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "none" / "out.json"
    done = cli("detector", "evaluate", "--data", str(data), "--json", str(out), "--seeds", "1")

    assert done.code == 1
    assert "cannot write" in done.err
