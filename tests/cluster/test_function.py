"""A function's life on a real cluster with real vLLM: from apply to nothing left behind."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from tests.cluster.conftest import Cluster, wait_for

from pilotlight.platform.kubernetes.pods import is_ready, leaves

PROMPT = [{"role": "user", "content": "Name the capital of France in one word."}]
BODY = {"messages": PROMPT, "max_tokens": 16, "temperature": 0.0, "stream": True}
SPEC = {
    "model": "s3://models/smollm2:v1",
    "engine": {"maxModelLen": 1024, "maxNumSeqs": 2},
    "resources": {"cpu": 0.4, "memory": "3500Mi"},
    "scale": {"max": 2, "keepAlive": "15s"},
}


@pytest.fixture(scope="session")
def model(cluster: Cluster, smollm2: Path) -> str:
    """SmolLM2 in the cluster's registry, pushed through the platform as a user without S3 keys does."""
    reference = str(SPEC["model"])
    cluster.pilotlight("models", "push", str(smollm2), reference, seconds=600)
    return reference


def stream(cluster: Cluster, function: str) -> tuple[list[str], str, str]:
    """Comments, text and the replica of one streamed answer."""
    comments, text, replica = [], "", ""
    body = {**BODY, "model": function}
    with httpx.stream(
        "POST", f"{cluster.url}/v1/chat/completions", headers=cluster.headers, json=body, timeout=600
    ) as answer:
        assert answer.status_code == 200, answer.read()
        for line in answer.iter_lines():
            if line.startswith(": "):
                comments.append(line[2:])
            elif line.startswith("data: {"):
                event = json.loads(line[6:])
                assert "error" not in event, event
                choice = event["choices"]
                text += choice[0]["delta"].get("content") or "" if choice else ""
    for comment in comments:
        if comment.startswith("pilotlight {"):
            replica = json.loads(comment.removeprefix("pilotlight "))["replica"]
    return comments, text, replica


@pytest.mark.engine
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("autoscaler", ["pilotlight", "kpa"])
def test_a_function_answers_from_zero_scales_and_leaves_nothing(
    cluster: Cluster, namespace: str, model: str, autoscaler: str, embedded_answer: str
) -> None:
    scale = {"max": 2, "keepAlive": "15s", "autoscaler": autoscaler}
    cluster.function(namespace, "chat", **{**SPEC, "model": model, "scale": scale})
    cluster.until_ready(namespace, "chat")
    assert cluster.pods(namespace, "chat") == []

    comments, text, replica = stream(cluster, f"{namespace}/chat")

    assert text == embedded_answer
    assert any("eta" in comment or "waiting" in comment for comment in comments)
    if autoscaler == "pilotlight":
        assert replica in {pod["metadata"]["name"] for pod in cluster.pods(namespace, "chat")}
    with load(cluster, f"{namespace}/chat", together=6):
        wait_for(lambda: ready(cluster, namespace) == 2, "a second replica serves under load", 400)
    cluster.until_zero(namespace, "chat", 400)
    rows = json.loads(cluster.pilotlight("usage", "--by", "function", "--json"))
    assert any(row["group"] == f"{namespace}/chat" and row["completion_tokens"] for row in rows)

    cluster.pilotlight("delete", f"{namespace}/chat")
    wait_for(lambda: not cluster.remains(namespace, "chat"), "nothing remains of the function", 300)


def ready(cluster: Cluster, namespace: str) -> int:
    return sum(is_ready(pod) and not leaves(pod) for pod in cluster.pods(namespace, "chat"))


@contextmanager
def load(cluster: Cluster, function: str, together: int) -> Iterator[None]:
    """So many requests in flight until the block ends; each is answered."""
    ended = threading.Event()
    problems: list[str] = []

    def work() -> None:
        while not ended.is_set():
            try:
                _, text, _ = stream(cluster, function)
            except (httpx.HTTPError, AssertionError) as error:
                problems.append(repr(error))
                return
            if not text:
                problems.append("an answer without text")

    threads = [threading.Thread(target=work) for _ in range(together)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert problems == []


@pytest.fixture(scope="session")
def embedded_answer(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the same manifest answers on this machine, without a cluster."""
    state = tmp_path_factory.mktemp("embedded")
    manifest = state / "chat.yaml"
    content = {
        "apiVersion": "pilotlight.dev/v1alpha1",
        "kind": "Function",
        "metadata": {"name": "chat"},
        "spec": {**SPEC, "scale": {"max": 1}},
    }
    manifest.write_text(yaml.safe_dump(content))
    command = str(Path(sys.executable).parent / "pilotlight")
    log = state / "up.log"
    with log.open("wb") as out:
        platform = subprocess.Popen([command, "up", "--state", str(state), "--port", "0"], stdout=out, stderr=out)
    try:
        url = wait_for(
            lambda: (state / "up.json").is_file() and json.loads((state / "up.json").read_text())["url"],
            "the embedded platform is up",
            60,
        )
        nobody: Any = None
        alone = Cluster(nobody, url, (state / "admin.key").read_text().strip(), "", nobody)
        alone.pilotlight("models", "push", str(smollm2), str(SPEC["model"]))
        alone.pilotlight("deploy", "-f", str(manifest))
        return stream(alone, "chat")[1]
    finally:
        platform.terminate()
        platform.wait(60)
