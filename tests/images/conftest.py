"""Images are built for real, where buildah and a base are at hand.

They stay there with the tag `test`, so that the next run is quick.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BASE = os.environ.get("PILOTLIGHT_TEST_BASE") or "localhost/pilotlight-base:3.11"
_SECONDS = 900


def buildah(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Without a container runtime of its own, which nested environments do not allow."""
    environment = os.environ | {"BUILDAH_ISOLATION": "chroot"}
    done = subprocess.run(
        ["buildah", *arguments], capture_output=True, text=True, timeout=_SECONDS, env=environment, check=False
    )
    if check:
        assert done.returncode == 0, done.stderr[-3000:]
    return done


@dataclass(frozen=True)
class Image:
    """An image that was built, and a container of it with its files at `root`."""

    container: str
    root: Path
    config: dict[str, Any]
    environment: frozenset[str]
    """Names of the variables that it adds to those of its base."""
    layers: tuple[str, ...]

    def run(self, *command: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run it as the image's user, on this machine's network."""
        options = [f"--env={name}={value}" for name, value in (environment or {}).items()]
        return buildah("run", *options, self.container, "--", *command, check=False)


def _facts(tag: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(buildah("inspect", "--type=image", tag).stdout)["OCIv1"]
    facts["config"].setdefault("Env", [])
    return facts


Build = Callable[..., Image]


@pytest.fixture(scope="session")
def build() -> Iterator[Build]:
    """Build a Containerfile: its path, the tag, the build context and arguments."""
    if shutil.which("buildah") is None:
        pytest.skip("no buildah here: images are not built")
    if not buildah("images", "--quiet", BASE, check=False).stdout.strip():
        pytest.skip(f"no image {BASE} here (PILOTLIGHT_TEST_BASE names another): images are not built")
    containers: list[str] = []

    def make(file: str, name: str, context: Path = ROOT, **arguments: str) -> Image:
        tag = f"pilotlight.local/{name}:test"
        given = [f"--build-arg={key}={value}" for key, value in {"BASE": BASE, **arguments}.items()]
        certificates = ["--volume=/etc/ssl/certs:/etc/ssl/certs:ro"] if Path("/etc/ssl/certs").is_dir() else []
        path = str(context / file)
        buildah("bud", "--layers", "--network=host", *certificates, *given, "-f", path, "-t", tag, str(context))
        containers.append(buildah("from", tag).stdout.strip())
        facts, base = _facts(tag), _facts(BASE)
        added = frozenset(row.partition("=")[0] for row in set(facts["config"]["Env"]) - set(base["config"]["Env"]))
        root = Path(buildah("mount", containers[-1]).stdout.strip())
        return Image(containers[-1], root, facts["config"], added, tuple(facts["rootfs"]["diff_ids"]))

    yield make
    for container in containers:
        buildah("rm", container, check=False)


@pytest.fixture(scope="session")
def control(build: Build) -> Image:
    return build("platform/Containerfile", "control")


@pytest.fixture(scope="session")
def on_engine(build: Build) -> Image:
    """As for a GPU, but for the base: nothing is known of how it does on one."""
    return build("runtime/Containerfile", "replica", ENGINE="base")


@pytest.fixture(scope="session")
def cpu(build: Build) -> Image:
    return build("runtime/Containerfile", "runtime")
