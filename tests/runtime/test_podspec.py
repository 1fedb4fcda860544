"""What a pod is given, and what is refused of it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.runtime.codec import BadDocumentError
from pilotlight.runtime.podspec import (
    CACHE_FOLDER,
    ENGINE_PORT,
    KEY_VARIABLE,
    PORT_VARIABLE,
    SPEC_VARIABLE,
    STATUS_PORT,
    STATUS_PORT_VARIABLE,
    TERMINATION_BYTES,
    TERMINATION_LOG,
    TERMINATION_LOG_VARIABLE,
    pod_environment,
    read_environment,
    termination_log,
    termination_message,
)
from pilotlight.runtime.spec import AdapterSpec, EngineSpec, ReplicaSpec

SPEC = ReplicaSpec(
    replica="chat-00001-abc",
    function="team-a/chat",
    revision="chat-00001",
    task="generate",
    store="s3://models",
    model="sha256:" + "0" * 64,
    served_names=("chat", "team-a/chat"),
    engine=EngineSpec("vllm", {"max_model_len": 1024, "enable_prefix_caching": True}, {"A": "b"}, key="engine-secret"),
    adapters=(AdapterSpec("legal", "sha256:" + "1" * 64),),
    cpus=(2, 3),
    threads=2,
    devices=("GPU-aaaa", "GPU-bbbb"),
    created_at=5.0,
)


def test_the_pod_reads_what_the_platform_wrote() -> None:
    settings = read_environment(pod_environment(SPEC) | {KEY_VARIABLE: "engine-secret"}, "chat-00001-deployment-x1")

    assert settings.spec == replace(
        SPEC,
        replica="chat-00001-deployment-x1",
        cpus=(),
        devices=("0", "1"),
        cache_folder=CACHE_FOLDER,
        created_at=0.0,
        orphan_seconds=math.inf,
    )
    assert (settings.engine_port, settings.status_port) == (ENGINE_PORT, STATUS_PORT)


def test_the_environment_is_the_same_for_all_pods_of_a_revision_and_has_no_key() -> None:
    other = replace(SPEC, replica="another", created_at=9.0, engine=replace(SPEC.engine, key="another"))

    assert pod_environment(SPEC) == pod_environment(other)
    assert "engine-secret" not in str(pod_environment(SPEC))


def test_a_folder_for_the_cache_that_is_named_stays() -> None:
    environment = pod_environment(replace(SPEC, cache_folder="/models")) | {KEY_VARIABLE: "k"}
    assert read_environment(environment, "pod").spec.cache_folder == "/models"


def test_ports_are_taken_from_the_environment() -> None:
    environment = pod_environment(SPEC) | {KEY_VARIABLE: "k", PORT_VARIABLE: "9000", STATUS_PORT_VARIABLE: "9001"}
    settings = read_environment(environment, "pod")
    assert (settings.engine_port, settings.status_port) == (9000, 9001)


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "٨٠٨٠", "9" * 5000])
def test_what_is_no_port_is_refused(port: str) -> None:
    environment = pod_environment(SPEC) | {KEY_VARIABLE: "k", PORT_VARIABLE: port}
    with pytest.raises(BadDocumentError, match=r"^PORT: .* is no port: expected 1 to 65535$"):
        read_environment(environment, "pod")


@pytest.mark.parametrize("missing", [SPEC_VARIABLE, KEY_VARIABLE])
def test_what_is_missing_is_named(missing: str) -> None:
    environment = pod_environment(SPEC) | {KEY_VARIABLE: "k"}
    del environment[missing]
    with pytest.raises(BadDocumentError, match=f"^{missing}: is not set$"):
        read_environment(environment, "pod")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"surprise": 1}, "surprise: unknown"),
        ({"threads": "two"}, "threads: expected int"),
        ({"engine": {"kind": "vllm", "key": "leaked"}}, "engine.key: a key must come from a Secret"),
    ],
    ids=["unknown field", "wrong type", "key"],
)
def test_a_spec_that_is_not_one_is_refused_by_field(change: dict[str, object], problem: str) -> None:
    document = json.loads(pod_environment(SPEC)[SPEC_VARIABLE]) | change
    with pytest.raises(BadDocumentError, match=f"^{SPEC_VARIABLE}: {problem}"):
        read_environment({SPEC_VARIABLE: json.dumps(document), KEY_VARIABLE: "k"}, "pod")


def test_the_termination_log_is_kubernetes_own_unless_another_is_named() -> None:
    assert termination_log({}) == Path(TERMINATION_LOG)
    assert termination_log({TERMINATION_LOG_VARIABLE: "/why"}) == Path("/why")


@given(st.text(min_size=1, max_size=9000), st.lists(st.text(max_size=3000), max_size=30))
def test_a_termination_message_fits_and_begins_with_the_reason(reason: str, lines: list[str]) -> None:
    message = termination_message(reason, tuple(lines))

    assert len(message) <= TERMINATION_BYTES
    text = message.decode()
    assert text.startswith(reason) if len(reason.encode()) <= TERMINATION_BYTES // 2 else reason.startswith(text[:500])


def test_of_many_lines_the_last_ones_are_kept_whole() -> None:
    lines = tuple(f"line {number} " + "x" * 90 for number in range(100))
    reason, *kept = termination_message("it failed", lines).decode().split("\n")

    assert reason == "it failed"
    assert 30 <= len(kept) < 100
    assert tuple(kept) == lines[-len(kept) :]
