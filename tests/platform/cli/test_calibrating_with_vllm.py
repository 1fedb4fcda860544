"""`pilotlight recommend --calibrate` with real vLLM: one start, ended by Ctrl-C after its first load."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import psutil
import pytest

from pilotlight.platform.calibration.records import FOLDER
from pilotlight.recommender import calibration
from pilotlight.recommender.files import fingerprint

pytestmark = [pytest.mark.engine, pytest.mark.timeout(400)]


class Result(Protocol):
    """How a command ended."""

    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@contextmanager
def _calibrating(*words: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "pilotlight.platform.cli", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_an_interrupted_calibration_tells_its_progress_ends_its_engine_and_is_used(
    smollm2: Path, tmp_path: Path, cli: Cli
) -> None:
    state = tmp_path / "state"
    asked = ("recommend", str(smollm2), "--accelerator", "cpu", "--prompt", "32", "--answer", "8")
    with _calibrating("--state", str(state), *asked, "--calibrate", "--within", "5m") as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if " loads: 1 in flight: " in line:
                process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130, lines

    assert [line.split()[-1] for line in lines if ": engine: " in line][-1] == "ready"
    assert "interrupted; what was measured is kept" in lines[-1]
    assert not [one for one in psutil.process_iter(["cmdline"]) if str(state) in " ".join(one.info["cmdline"] or ())]

    (file,) = (state / FOLDER).glob("*.json")
    record = calibration.parse(file.read_bytes(), str(file))
    assert record.subject.model == fingerprint(smollm2)
    assert record.engine.startswith("vllm 0.")
    assert record.loads == (1,)
    assert all(0 < (sample.itl or 1) < 60 for sample in record.measured[0].samples)

    told = json.loads(cli(*asked, "--json").out)
    assert told[0]["notes"][0].startswith("latencies: measured")
    assert str(file) in told[0]["notes"][0]
