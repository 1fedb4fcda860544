"""The whole demo with real vLLM, as `make demo` runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
COMMAND = [sys.executable, "-m", "pilotlight.platform.cli", "demo", "--state"]


def processes_of(state: Path) -> list[list[str]]:
    """Command lines that name the folder; those of the test's own process do not count."""
    found = []
    for process in psutil.process_iter():
        try:
            alive = process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE
            if alive and any(str(state) in part for part in process.cmdline()):
                found.append(process.cmdline())
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """One whole run: its state folder, and how it ended."""
    state = tmp_path_factory.mktemp("demo") / "state"
    picture = state.parent / "demo.svg"
    command = [*COMMAND, str(state), "--record", str(picture)]
    return state, subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)


def test_it_tells_the_whole_story(told: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    state, done = told

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert done.stdout.count("Paris") == 2
    assert "... loading weights" in done.stdout or "... starting the engine" in done.stdout
    for phase in ("schedule", "fetch", "import", "load", "warmup"):
        assert f"  {phase} " in done.stdout
    assert "no engine process is left" in done.stdout
    assert "keep-alive is 10 s" in done.stdout
    assert "always on, a month" in done.stdout
    assert "\x1b" not in done.stdout
    assert "Paris" in (state.parent / "demo.svg").read_text()


def test_it_leaves_no_process_and_keeps_the_model_once(
    told: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    state, _ = told

    assert processes_of(state) == []
    assert not (state / "converted").exists()


def test_ctrl_c_while_the_engine_starts_ends_everything(
    told: tuple[Path, subprocess.CompletedProcess[str]], until: Callable[[Callable[[], bool], str], None]
) -> None:
    state, _ = told
    with subprocess.Popen([*COMMAND, str(state)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: any("vllm" in part for line in processes_of(state) for part in line), "an engine")

        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)

    assert (process.returncode, err) == (130, "interrupted; processes of the demo that are left: none\n"), out
    assert processes_of(state) == []
