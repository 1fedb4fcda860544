"""What the benchmarks share: the machine's facts, bars, a platform under test, and a stream timed from outside."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

PROGRAM = (sys.executable, "-m", "pilotlight.platform.cli")


@dataclass(frozen=True)
class Bar:
    """One promise of a benchmark: its figure, what was asked, and whether it holds."""

    benchmark: str
    name: str
    figure: str
    asked: str
    holds: bool

    def line(self) -> str:
        verdict = "holds" if self.holds else "falls short"
        return f"{self.benchmark} {self.name}: {self.figure} (asked: {self.asked}) {verdict}"


def arguments(description: str, *, cluster: bool = False) -> argparse.Namespace:
    """Parse the options that every benchmark takes; from then on SIGTERM ends what was started, as Ctrl-C does.

    `cluster`: it runs against one, and takes what says which.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="fewer runs: under five minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    if cluster:
        parser.add_argument("--context", metavar="NAME", help="of the kubeconfig; by default its current one")
        parser.add_argument("--kubeconfig", type=Path, metavar="FILE", help="by default what KUBECONFIG names")
    return parser.parse_args()


def machine() -> dict[str, object]:
    """Facts without which a figure says nothing."""
    return {
        "processor": _processor(),
        "cpus": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.machine())


def report(results: Mapping[str, object], bars: list[Bar], file: Path | None) -> None:
    """Print the bars last, one a line, and write everything to `file` when there is one."""
    if file is not None:
        whole = {**results, "bars": [bar.__dict__ for bar in bars]}
        file.write_text(json.dumps(whole, indent=2) + "\n")
    for bar in bars:
        print(bar.line())


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass(frozen=True)
class Platform:
    """A running `pilotlight up` with a state folder of its own."""

    url: str
    key: str
    state: Path
    pid: int

    def run(self, *words: str) -> str:
        """Run one `pilotlight` command against it and give back what it printed."""
        environment = {**os.environ, "PILOTLIGHT_URL": self.url, "PILOTLIGHT_STATE": str(self.state)}
        done = subprocess.run(
            [*PROGRAM, *words], env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        if done.returncode:
            raise RuntimeError(f"pilotlight {' '.join(words)} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def deploy(self, manifest: str) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(manifest)
            file.flush()
            self.run("deploy", "-f", file.name)


@contextlib.contextmanager
def platform_up(*options: str) -> Iterator[Platform]:
    """Start a platform on a free loopback port; end it and its replicas on the way out."""
    with tempfile.TemporaryDirectory(prefix="pilotlight-bench-") as folder:
        state, port = Path(folder, "state"), free_port()
        command = [*PROGRAM, "--state", str(state), "up", "--port", str(port), *options]
        with Path(folder, "up.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_http(f"{url}/readyz", 60, process)
            yield Platform(url, (state / "admin.key").read_text().strip(), state, process.pid)
        except Exception:
            print(Path(folder, "up.log").read_text()[-5000:], file=sys.stderr)
            raise
        finally:
            end(process)


def end(process: subprocess.Popen[bytes] | subprocess.Popen[str], seconds: float = 60) -> None:
    """SIGTERM, then SIGKILL when that was not enough."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_http(url: str, seconds: float, process: subprocess.Popen[bytes], interval: float = 0.05) -> None:
    """Poll `url` until it answers 200; an error when the process ends first or time is up."""
    deadline = time.monotonic() + seconds
    with httpx.Client(timeout=5) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
            with contextlib.suppress(httpx.TransportError):
                if client.get(url).status_code == 200:
                    return
            time.sleep(interval)
    raise TimeoutError(f"{url} did not answer within {seconds:.0f} s")


def first_token(url: str, key: str, body: Mapping[str, object], seconds: float = 600) -> tuple[float, str]:
    """Stream one chat completion; seconds from sending to the first token with text, and the whole text."""
    begin, first, text = time.monotonic(), 0.0, ""
    headers = {"authorization": f"Bearer {key}"}
    with (
        httpx.Client(timeout=seconds) as client,
        client.stream("POST", f"{url}/v1/chat/completions", json={**body, "stream": True}, headers=headers) as answer,
    ):
        if answer.status_code != 200:
            raise RuntimeError(f"{url} answered {answer.status_code}: {answer.read().decode()[:500]}")
        for line in answer.iter_lines():
            piece = _text(line)
            if piece and not text:
                first = time.monotonic() - begin
            text += piece
    if not text:
        raise RuntimeError(f"{url} ended the stream without a token")
    return first, text


def _text(line: str) -> str:
    if not line.startswith("data: ") or line == "data: [DONE]":
        return ""
    event = json.loads(line[6:])
    if "error" in event:
        raise RuntimeError(f"the stream ended with {event['error']}")
    choices = event.get("choices") or [{}]
    return str((choices[0].get("delta") or {}).get("content") or "")


def supervisors(state: Path) -> list[psutil.Process]:
    """The supervisors that hold replicas of the platform with this state folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "pilotlight.runtime.supervisor" in words and any(str(state) in word for word in words):
            found.append(process)
    return found


def engine(state: Path) -> psutil.Process:
    """The one vLLM server below those supervisors."""
    for supervisor in supervisors(state):
        for process in supervisor.children(recursive=True):
            if "vllm.entrypoints.openai.api_server" in process.cmdline() and process.name() != "guard":
                return process
    raise LookupError(f"no engine runs for {state}")
