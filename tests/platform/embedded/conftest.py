"""The assembled platform as a process of its own on a free port, with the simulated engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

PROGRAM = textwrap.dedent("""
    import json, sys
    from pathlib import Path
    from pilotlight.platform.serve import run
    from pilotlight.platform.settings import Settings
    options = json.loads(sys.argv[1])
    run(Settings(state=Path(options.pop("state")), port=0, **options), lambda url: print(url, flush=True))
""")
API = "/api/v1alpha1"
PATIENCE = 120.0


def until(what: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Poll until it is truthy; fails loudly when it never is."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return found


class Up:
    """One platform process and what a user does with it."""

    def __init__(self, state: Path, **options: Any) -> None:
        self.state = state
        self.options = options
        self.start()

    def start(self) -> None:
        options = json.dumps({"state": str(self.state), **self.options})
        with (self.state.parent / f"{self.state.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, options], stdout=subprocess.PIPE, stderr=log
            )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().decode().strip()
        if not self.url:
            self._wait()
            raise RuntimeError((self.state.parent / f"{self.state.name}.log").read_text())
        self.key = (self.state / "admin.key").read_text().strip()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self._wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self._wait()

    def _wait(self) -> int:
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(60)

    def headers(self, key: str = "") -> dict[str, str]:
        return {"authorization": f"Bearer {key or self.key}"}

    def ask(self, method: str, path: str, key: str = "", **options: Any) -> httpx.Response:
        headers = {**self.headers(key), **options.pop("headers", {})}
        return httpx.request(method, self.url + path, headers=headers, timeout=60, trust_env=False, **options)

    def items(self, kind: str, **parameters: Any) -> list[dict[str, Any]]:
        answer = self.ask("GET", f"{API}/{kind}", params=parameters)
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    def deploy(self, name: str, key: str = "", **spec: Any) -> httpx.Response:
        spec.setdefault("engine", {"kind": "simulated", "simulated": {"meanTokens": 1000}})
        manifest = {
            "apiVersion": "pilotlight.dev/v1alpha1",
            "kind": "Function",
            "metadata": {"name": name, "namespace": "team-a"},
            "spec": {"model": "s3://models/tiny", **spec},
        }
        return self.ask("POST", f"{API}/functions", key, json=manifest)

    def function(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET", f"{API}/functions/team-a/{name}").json()
        return found

    def body(self, **changes: Any) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, **changes}

    def chat(self, name: str, key: str = "", **changes: Any) -> httpx.Response:
        return self.ask("POST", f"/f/team-a/{name}/v1/chat/completions", key, json=self.body(**changes))

    def replicas(self, name: str) -> list[dict[str, Any]]:
        """Live and ended ones."""
        return self.items("replicas", function=f"team-a/{name}", limit=1000)

    def live(self, name: str) -> list[dict[str, Any]]:
        return [replica for replica in self.replicas(name) if replica["ended_at"] is None]

    def processes(self) -> list[psutil.Process]:
        """Supervisors and engines of this state folder, whoever their parent is."""
        found = []
        for process in psutil.process_iter():
            try:
                if any(str(self.state / "replicas") in part for part in process.cmdline()):
                    found += [process, *process.children(recursive=True)]
            except psutil.Error:
                continue
        return [process for process in found if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def make_up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """make_up(**settings); everything it started is gone afterwards."""
    started: list[Up] = []

    def make(name: str = "state", **options: Any) -> Up:
        started.append(Up(tmp_path / name, **options))
        return started[-1]

    yield make
    _end(started)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One platform that the tests of a module share."""
    shared = Up(tmp_path_factory.mktemp("platform") / "state")
    yield shared
    _end([shared])


def _end(started: list[Up]) -> None:
    for up in started:
        if up.process.poll() is None:
            up.stop()
        for process in up.processes():
            os.kill(process.pid, signal.SIGKILL)


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    return until
