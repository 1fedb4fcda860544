"""`pilotlight recommend evaluate`: figures as JSON and as a table, and bad files refused with exit code 2."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from pilotlight.recommender.measurements import COLUMNS

ROW = "{id},0.19.0,Qwen/Qwen3-32B,h100_sxm,fp8,1024,512,fp8,,2,1,,,,{batch},{ttft},{itl}"


class Result(Protocol):
    """How a command ended."""

    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    order = [name for name in COLUMNS if name not in ("batch_size", "silicon_ttft_ms", "silicon_tpot_ms")]
    lines = [ROW.format(id=b, batch=b, ttft=50 + 2 * b, itl=10 + 0.2 * b) for b in (1, 4, 16, 64, 256)]
    file = tmp_path / "measured.csv"
    file.write_text("\n".join([",".join([*order, "batch_size", "silicon_ttft_ms", "silicon_tpot_ms"]), *lines]))
    return file


def test_the_figures_are_written_and_shown(data: Path, tmp_path: Path, cli: Cli) -> None:
    done = cli("recommend", "evaluate", "--data", str(data), "--json", str(tmp_path / "out.json"))
    report = json.loads((tmp_path / "out.json").read_text())

    assert done.code == 0
    assert report["itl"].keys() >= {"median_error", "mean_error", "coverage95"}
    assert report["ttft"]["median_error"] < 0.2
    assert report["linear_baseline"]["itl"]["median_error"] < 1e-6
    assert "median_error" in report["one_point"]
    assert "spearman_median" in report["rank"]
    assert f"{report['itl']['median_error']:.1%}" in done.out


def test_own_accelerators_are_taken(data: Path, tmp_path: Path, cli: Cli) -> None:
    data.write_text(data.read_text().replace("h100_sxm", "lab-card"))
    own = tmp_path / "own.yaml"
    own.write_text("lab-card: {memory: 85899345920, bandwidth: 1e12, flops: {bf16: 1e14}, source: its datasheet}")
    out = tmp_path / "out.json"

    def with_prior(*options: str) -> int:
        assert cli("recommend", "evaluate", "--data", str(data), "--json", str(out), *options).code == 0
        return int(json.loads(out.read_text())["data"]["groups_with_prior"])

    assert with_prior() == 0
    assert with_prior("--accelerators", str(own)) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("silicon_tpot_ms", "other"), "lacks the columns silicon_tpot_ms"),
        ((",10.2", ",nan"), "line 2, silicon_tpot_ms: 'nan'"),
        ((",1024,", ",many,"), "line 2, isl: 'many'"),
    ],
)
def test_a_bad_file_is_refused(change: tuple[str, str], said: str, data: Path, cli: Cli) -> None:
    data.write_text(data.read_text().replace(*change))
    done = cli("recommend", "evaluate", "--data", str(data))

    assert (done.code, done.out) == (2, "")
    assert said in done.err


@pytest.mark.parametrize(("lines", "said"), [(0, "lacks the columns"), (1, "no rows"), (3, "3 batch sizes")])
def test_too_little_is_refused(lines: int, said: str, data: Path, cli: Cli) -> None:
    data.write_text("\n".join(data.read_text().splitlines()[:lines]))
    done = cli("recommend", "evaluate", "--data", str(data))

    assert done.code == 2
    assert said in done.err


def test_a_file_that_is_not_there_and_a_folder_that_is_not_there_are_told(data: Path, cli: Cli) -> None:
    assert cli("recommend", "evaluate", "--data", str(data.parent / "none.csv")).code == 2
    unwritable = cli("recommend", "evaluate", "--data", str(data), "--json", str(data.parent / "none" / "out.json"))

    assert unwritable.code == 1
    assert "cannot write" in unwritable.err
