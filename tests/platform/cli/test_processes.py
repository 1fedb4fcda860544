"""`pilotlight operator` and `pilotlight activator` as processes that never get as far as a cluster."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

SECRET = "hunter2"
GIVEN = {
    "HOSTNAME": "pod-0",
    "PILOTLIGHT_DATABASE_URL": f"postgresql://user:{SECRET}@127.0.0.1:1/x",
    "PILOTLIGHT_MASTER_KEY": SECRET * 8,
    "PILOTLIGHT_RUNTIME_IMAGE": "runtime:1",
    "PILOTLIGHT_SIMULATED_IMAGE": "control:1",
}


def run(command: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "pilotlight.platform.cli", command]
    return subprocess.run(words, env=dict(environment), capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("command", "variable", "value", "said"),
    [
        ("operator", "PILOTLIGHT_MASTER_KEY", SECRET, "at least 32 characters"),
        ("operator", "PILOTLIGHT_CONTROL_PORT", f"tcp://{SECRET}:9443", "valid integer"),
        ("activator", "PILOTLIGHT_DATABASE_URL", "", "field required"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_in_words_that_keep_secrets(
    command: str, variable: str, value: str, said: str
) -> None:
    done = run(command, {**GIVEN, variable: value})

    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {variable}: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stderr + done.stdout


def test_without_a_cluster_it_says_so_and_fails(tmp_path: Path) -> None:
    done = run("operator", {**GIVEN, "KUBECONFIG": str(tmp_path / "none"), "PILOTLIGHT_STATE": str(tmp_path)})

    assert done.returncode == 1
    assert "finding the cluster" in done.stderr
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stderr + done.stdout
