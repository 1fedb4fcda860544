"""A supervisor with real vLLM and a real model. Starts are dear: each test takes all it can from one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import save

from pilotlight.platform.demo.model import minilm_folder
from pilotlight.runtime import client, guard
from pilotlight.runtime.engines.vllm_key import IN_FLIGHT
from pilotlight.runtime.metrics import scrape
from pilotlight.runtime.spec import AdapterSpec, EngineSpec, Phase, ReplicaSpec, ReplicaState, ReplicaStatus

if TYPE_CHECKING:
    from tests.runtime.conftest import Registry, Supervised

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

Processes = Callable[[], set[int]]
Until = Callable[[Callable[[], bool], str], None]

_OPTIONS = {"max_model_len": 1024, "max_num_seqs": 4, "kv_cache_memory_bytes": 256 << 20}
_KEY = "engine-secret"
_QUESTION = {
    "model": "chat",
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "max_tokens": 16,
    "temperature": 0,
}


@pytest.fixture(scope="session")
def node_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all starts, so that they share the model as replicas of a machine do."""
    return tmp_path_factory.mktemp("node-cache")


def _spec(supervised: Supervised, registry: Registry, cache: Path, model: Path, **config: object) -> ReplicaSpec:
    files: dict[str, bytes | Path] = {
        path.relative_to(model).as_posix(): path
        for path in model.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }
    if config:
        files["config.json"] = json.dumps(json.loads((model / "config.json").read_bytes()) | config).encode()
    return replace(
        supervised.spec(),
        store=registry.store.address,
        model=registry.put(files).digest,
        engine=EngineSpec("vllm", _OPTIONS, key=_KEY),
        threads=2,
        cache_folder=str(cache),
        orphan_seconds=300.0,
    )


def _ask(status: ReplicaStatus, path: str, body: Mapping[str, object] | None, key: str = _KEY) -> tuple[int, bytes]:
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(
            urllib.request.Request(status.endpoint + path, data, headers), timeout=120
        ) as found:
            return found.status, found.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def _lora(config: Mapping[str, int]) -> dict[str, bytes | Path]:
    """An adapter of rank 8 for every layer's q_proj and v_proj, random and so large that it drowns the base."""
    hidden, size = config["hidden_size"], config["hidden_size"] // config["num_attention_heads"]
    widths = {"q_proj": hidden, "v_proj": size * config["num_key_value_heads"]}
    random = np.random.default_rng(7)
    tensors = {}
    for layer, (name, width) in product(range(config["num_hidden_layers"]), widths.items()):
        prefix = f"base_model.model.model.layers.{layer}.self_attn.{name}"
        tensors[f"{prefix}.lora_A.weight"] = random.standard_normal((8, hidden), np.float32)
        tensors[f"{prefix}.lora_B.weight"] = random.standard_normal((width, 8), np.float32)
    described = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": list(widths), "bias": "none"}
    return {"adapter_config.json": json.dumps(described).encode(), "adapter_model.safetensors": save(tensors)}


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _kill_at_one_stroke(*processes: int) -> None:
    """None of them does anything at the end of another, as when a whole group is killed."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in processes:
            os.kill(pid, number)


async def test_from_the_registry_to_an_answer_and_a_drain_that_lets_a_stream_finish(
    supervised: Supervised, registry: Registry, node_cache: Path, smollm2: Path, processes: Processes
) -> None:
    supervised.launch(_spec(supervised, registry, node_cache, smollm2))
    status = await supervised.reach(ReplicaState.READY)

    reports = {report.name: report for report in status.phases}
    assert list(reports) == list(Phase)
    # Each was seen in the engine's own log, or it would have taken no time at all.
    assert all(reports[name].end != reports[name].start for name in Phase if name is not Phase.READY)

    code, answer = _ask(status, "/v1/chat/completions", _QUESTION)
    assert code == 200
    assert json.loads(answer)["choices"][0]["message"]["content"] == "The capital of France is Paris."
    for path in ("/v1/chat/completions", "/invocations", "/tokenize", "/inference/v1/generate", "/v1/models"):
        assert _ask(status, path, _QUESTION, key="")[0] == 401, path
    for path in ("/sleep", "/collective_rpc", "/server_info"):
        assert _ask(status, path, {})[0] in (404, 405), path

    metrics = scrape(_ask(status, "/metrics", None, key="")[1].decode())
    assert (metrics.running, metrics.waiting) == (0, 0)
    assert metrics.generation_tokens >= 8

    body = _QUESTION | {"stream": True, "max_tokens": 120, "ignore_eos": True}
    stream = asyncio.create_task(asyncio.to_thread(_ask, status, "/v1/chat/completions", body))
    async with asyncio.timeout(60):
        while b'"in_flight":1}' not in (await asyncio.to_thread(_ask, status, IN_FLIGHT, None))[1]:  # noqa: ASYNC110  another process says when
            await asyncio.sleep(0.01)
    os.kill(supervised.pid, signal.SIGTERM)
    await supervised.reach(ReplicaState.DRAINING)
    code, events = await stream
    assert code == 200
    assert events.count(b"data: {") >= 100
    assert events.rstrip().endswith(b"data: [DONE]")
    assert (await supervised.ended()).state is ReplicaState.STOPPED
    assert processes() == set()


async def test_an_adapter_answers_beside_its_base_and_a_killed_engine_is_told_and_leaves_nothing(
    supervised: Supervised, registry: Registry, node_cache: Path, smollm2: Path, processes: Processes
) -> None:
    spec = _spec(supervised, registry, node_cache, smollm2)
    adapter = registry.put(_lora(json.loads((smollm2 / "config.json").read_bytes())), kind="adapter")
    supervised.launch(replace(spec, adapters=(AdapterSpec("loud", adapter.digest),)))
    status = await supervised.reach(ReplicaState.READY)
    answers = {}
    for name in ("chat", "loud"):
        code, answer = _ask(status, "/v1/chat/completions", _QUESTION | {"model": name})
        assert code == 200, answer
        answers[name] = json.loads(answer)["choices"][0]["message"]["content"]
    assert answers["chat"] == "The capital of France is Paris."
    assert answers["loud"] != answers["chat"]

    os.kill(status.engine_pid, signal.SIGKILL)
    failed = await supervised.reach(ReplicaState.FAILED)
    assert failed.message.startswith("the engine died while it served: the engine was killed")
    await client.stop(supervised.folder)
    await supervised.ended()
    assert processes() == set()


async def test_weights_that_do_not_match_their_config_fail_the_start_with_a_sentence(
    supervised: Supervised, registry: Registry, node_cache: Path, smollm2: Path, processes: Processes
) -> None:
    supervised.launch(_spec(supervised, registry, node_cache, smollm2, num_hidden_layers=31))
    failed = await supervised.reach(ReplicaState.FAILED)
    assert failed.message.startswith("the model's weights do not match its config.json")
    assert failed.log_tail
    assert failed.phases[-1].name in (Phase.LOAD, Phase.WARMUP)
    await client.stop(supervised.folder)
    await supervised.ended()
    assert processes() == set()


async def test_an_embedder_embeds_and_leaves_nothing_when_supervisor_and_guard_are_killed_at_one_stroke(
    supervised: Supervised, registry: Registry, node_cache: Path, processes: Processes, until: Until
) -> None:
    spec = _spec(supervised, registry, node_cache, minilm_folder())
    supervised.launch(replace(spec, task="embed", engine=EngineSpec("vllm", {"max_num_seqs": 4}, key=_KEY)))
    status = await supervised.reach(ReplicaState.READY)
    code, answer = _ask(status, "/v1/embeddings", {"model": "chat", "input": ["a cat", "a dog"]})
    assert code == 200
    assert [len(row["embedding"]) for row in json.loads(answer)["data"]] == [384, 384]

    assert len(processes()) >= 5  # supervisor, guard, and at least three of the engine
    _kill_at_one_stroke(supervised.pid, _children(supervised.pid)[0])
    assert (await supervised.ended()).message == "its supervisor died"
    client.clear(supervised.folder)
    until(lambda: guard.reap() is not None and not processes(), "the end of all processes")
