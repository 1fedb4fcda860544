"""From zero to the first token: Pilotlight against plain vLLM on a local copy of the same model.

Both sides run the same engine with the same options on the same processors, in turn, so that the machine's drift falls
on both. The clock of the plain side starts with its process and stops at the first token with text, its readiness being
polled as often as ours; the clock of Pilotlight's side starts when the request is sent to a function at zero.

The bar is the median over pairs of ours / plain.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import harness
from pilotlight.platform.demo.weights import convert

PAIRS, QUICK_PAIRS = 5, 2
LIMIT = 1.05
OWN_OPTIONS = frozenset({"--host", "--port", "--model", "--served-model-name", "--middleware"})
ENVIRONMENT = ("VLLM_", "OMP_", "MKL_", "HF_", "TORCH", "MALLOC", "LD_PRELOAD", "KMP_")
REF = "s3://models/smollm2-135m-instruct:v1"
BODY = {
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "max_tokens": 16,
    "temperature": 0,
}
MANIFEST = f"""\
apiVersion: pilotlight.dev/v1alpha1
kind: Function
metadata: {{name: chat}}
spec:
  model: {REF}
  scale: {{keepAlive: 2s}}
"""


@dataclass(frozen=True)
class Pair:
    """One run of each side, seconds to the first token, and our phases."""

    plain: float
    pilotlight: float
    phases: Mapping[str, float]

    @property
    def ratio(self) -> float:
        return self.pilotlight / self.plain


def main() -> None:
    options = harness.arguments(__doc__ or "")
    with tempfile.TemporaryDirectory(prefix="pilotlight-model-") as folder:
        model = convert(Path(folder, "model", "smollm2"))
        with harness.platform_up() as platform:
            platform.run("models", "push", str(model), REF)
            platform.deploy(MANIFEST)
            pilotlight_run(platform)  # not counted: fills the node cache and the page cache for both sides
            argv, environment = engine_command(platform)
            pairs = []
            for number in range(QUICK_PAIRS if options.quick else PAIRS):
                pair = one_pair(platform, model, argv, environment)
                pairs.append(pair)
                print(
                    f"pair {number + 1}: plain {pair.plain:.2f} s, pilotlight {pair.pilotlight:.2f} s, {pair.ratio:.3f}"
                )
    median = statistics.median(pair.ratio for pair in pairs)
    for name in pairs[0].phases:
        print(f"phase {name}: median {statistics.median(pair.phases.get(name, 0.0) for pair in pairs):.2f} s")
    bar = harness.Bar("cold_start", "median ratio", f"{median:.3f}", f"at most {LIMIT}", median <= LIMIT)
    results = {"machine": harness.machine(), "pairs": [asdict(pair) for pair in pairs]}
    harness.report(results, [bar], options.json)


def one_pair(platform: harness.Platform, model: Path, argv: list[str], environment: Mapping[str, str]) -> Pair:
    plain = plain_run(model, argv, environment)
    seconds, phases = pilotlight_run(platform)
    return Pair(plain, seconds, phases)


def plain_run(model: Path, argv: list[str], environment: Mapping[str, str]) -> float:
    """Start vLLM's server by hand, wait until it is healthy, ask; seconds from start to first token."""
    port = harness.free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--port", str(port)]
    begin = time.monotonic()
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--served-model-name", "chat", *argv],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        harness.wait_http(f"http://127.0.0.1:{port}/health", 300, process)
        ready = time.monotonic() - begin
        seconds, _ = harness.first_token(f"http://127.0.0.1:{port}", "none", {**BODY, "model": "chat"})
        return ready + seconds
    finally:
        harness.end(process)


def pilotlight_run(platform: harness.Platform) -> tuple[float, dict[str, float]]:
    """Call the function while nothing runs; seconds to the first token, and seconds by phase of the start."""
    wait_for_zero(platform)
    seconds, _ = harness.first_token(platform.url, platform.key, {**BODY, "model": "chat"})
    newest = max(platform.state.glob("replicas/*/status.json"), key=lambda file: file.stat().st_mtime)
    phases = json.loads(newest.read_text())["phases"]
    return seconds, {phase["name"]: phase["end"] - phase["start"] for phase in phases if phase["end"]}


def wait_for_zero(platform: harness.Platform, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while harness.supervisors(platform.state):
        if time.monotonic() > deadline:
            raise TimeoutError("the function did not go back to zero")
        time.sleep(0.1)


def engine_command(platform: harness.Platform) -> tuple[list[str], dict[str, str]]:
    """The options and environment that the running replica's engine was started with, less what names the replica."""
    engine = harness.engine(platform.state)
    argv, environment = engine.cmdline(), engine.environ()
    options, own = [], False
    for word in argv[argv.index("vllm.entrypoints.openai.api_server") + 1 :]:
        if word.startswith("--"):
            own = word in OWN_OPTIONS
        if not own:
            options.append(word)
    kept = {name: value for name, value in environment.items() if name.startswith(ENVIRONMENT)}
    kept.pop("VLLM_API_KEY", None)
    return options, kept


if __name__ == "__main__":
    main()
