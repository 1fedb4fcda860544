"""The embedding example with real vLLM: pushed, deployed and called by the commands that its page shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotlight.platform.demo.child import running_platform
from pilotlight.platform.demo.model import minilm_folder

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with running_platform(tmp_path_factory.mktemp("examples")) as settings:
        yield settings.state


def run(state: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "pilotlight.platform.cli", *arguments]
    environment = {**os.environ, "PILOTLIGHT_STATE": str(state), "PILOTLIGHT_URL": "", "PILOTLIGHT_KEY": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=800, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def embedding(state: Path, text: str) -> list[float]:
    vector: list[float] = json.loads(run(state, "call", "embed", "--json", text))["embedding"]
    return vector


def likeness(left: list[float], right: list[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def test_the_packaged_embedder_tells_like_from_unlike(state: Path) -> None:
    run(state, "models", "push", str(minilm_folder()), "s3://models/all-minilm-l6-v2:v1")
    run(state, "deploy", "-f", str(EXAMPLES / "embed.yaml"))

    cat, kitten, invoice = (
        embedding(state, text)
        for text in ("The cat sleeps on the mat.", "A kitten naps on the rug.", "The invoice is due in May.")
    )

    assert len(cat) == 384
    assert likeness(cat, cat) == pytest.approx(1.0, abs=1e-3)
    assert likeness(cat, kitten) > likeness(cat, invoice) + 0.2
