"""`pilotlight simulate`: figures as JSON, as a table and as a chart, and what cannot be simulated refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest


class Result(Protocol):
    """How a command ended."""

    code: int
    out: str
    err: str


Cli = Callable[..., Result]

FIGURES = {"slo_attainment", "cold_per_1000", "replica_seconds", "idle_seconds", "wait_p99_s"}


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    file = tmp_path / "trace.csv"
    lines = [f"{70 * call},chat,100,20" for call in range(20)]
    file.write_text("\n".join(["time,function,prompt_tokens,output_tokens", *lines]))
    return file


def test_policies_are_compared_on_the_same_requests(trace: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "out.json"
    names = "keepalive-0s,keepalive-5m,oracle"
    done = cli("simulate", "--format", "csv", "--arrivals", str(trace), "--policies", names, "--json", str(out))
    found = json.loads(out.read_text())

    assert done.code == 0
    assert list(found["policies"]) == names.split(",")
    assert found["requests"] == 20
    assert all(figures.keys() >= FIGURES for figures in found["policies"].values())
    assert found["policies"]["keepalive-0s"]["slo_attainment"] == 0.0
    assert found["policies"]["keepalive-5m"]["slo_attainment"] == 0.95
    assert found["policies"]["keepalive-5m"]["cold_per_1000"] == 50.0
    assert "95.00%" in done.out
    for figures in found["policies"].values():
        parts = [figures[f"{part}_seconds"] for part in ("serving", "starting", "idle")]
        assert sum(parts) == pytest.approx(figures["replica_seconds"])


@pytest.mark.parametrize(("name", "magic"), [("chart.svg", b"<?xml"), ("chart.png", b"\x89PNG")])
def test_a_chart_is_drawn(trace: Path, tmp_path: Path, cli: Cli, name: str, magic: bytes) -> None:
    file = tmp_path / name
    options = ("--policies", "kpa,lru", "--chart", str(file))
    drawn = []
    for _ in range(2):
        assert cli("simulate", "--format", "csv", "--arrivals", str(trace), *options).code == 0
        drawn.append(file.read_bytes())

    assert drawn[0].startswith(magic)
    assert drawn[0] == drawn[1]


def test_arrivals_can_be_made_up(cli: Cli) -> None:
    made = (
        "simulate",
        "--format",
        "poisson",
        "--rate",
        "0.02",
        "--time",
        "2h",
        "--functions",
        "3",
        "--policies",
        "lru",
    )
    first, second = cli(*made, "--fleet", "2"), cli(*made, "--fleet", "2")

    assert first.code == 0
    assert first.out == second.out != cli(*made, "--fleet", "2", "--seed", "1").out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--format", "csv"), "csv arrivals need a file"),
        (("--format", "poisson", "--arrivals", "trace.csv"), "come from no file"),
        (("--format", "poisson", "--policies", "kpa,beste"), "there is no policy 'beste'"),
        (("--format", "poisson", "--policies", "pilotlight"), "use pilotlight-no-vae"),
        (("--format", "poisson", "--chart", "chart.gif"), "a chart is .svg or .png, not chart.gif"),
        (("--format", "poisson", "--start", "10 parsecs"), "--start: "),
        (("--format", "poisson", "--slots", "0"), "slots"),
        (("--format", "poisson", "--share", "2"), "share"),
        (("--format", "normal"), "normal"),
    ],
)
def test_what_cannot_be_simulated_is_refused(cli: Cli, options: tuple[str, ...], said: str) -> None:
    done = cli("simulate", *options)

    assert done.code == 2
    assert said in done.err


def test_a_bad_line_is_named(trace: Path, cli: Cli) -> None:
    trace.write_text(trace.read_text() + "\n1,chat,1,1\n")
    done = cli("simulate", "--format", "csv", "--arrivals", str(trace))

    assert done.code == 2
    assert f"{trace}, line 22, time: " in done.err


def test_a_file_that_cannot_be_written_is_named(trace: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "absent" / "out.json"
    done = cli("simulate", "--format", "csv", "--arrivals", str(trace), "--policies", "lru", "--json", str(out))

    assert done.code == 1
    assert f"cannot write {out}" in done.err
