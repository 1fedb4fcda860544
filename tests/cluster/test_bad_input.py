"""What cannot run says why: where it is applied, where it is looked at, and to whoever waits for it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import save_file
from tests.cluster.conftest import Cluster, wait_for

from pilotlight.platform.kubernetes.kinds import SECRET, SERVICE_ACCOUNT

NO_DIGEST = f"s3://models/none@sha256:{'0' * 64}"
TINY = "s3://models/tiny-llama:v1"
CALL_SECONDS = 150.0
"""A pod that finds no node is waited for a minute: a node may be added for it."""


@dataclass(frozen=True)
class Case:
    """Something wrong with a function, and the words of the reason that must be seen everywhere."""

    words: str
    spec: dict[str, Any]
    model: bool = False
    """Whether it needs the model to be there."""
    early: bool = True
    """Whether it is known before anybody calls."""


CASES = {
    "a model digest that does not exist": Case("is not in the registry", {"model": NO_DIGEST, "engine": {}}),
    "a repository that cannot be reached": Case(
        "Unable to fetch image", {"pod": {"image": "nowhere.invalid/runtime:1"}}
    ),
    "an image that is not there": Case(
        "ErrImagePull|ImagePullBackOff", {"pod": {"image": "pilotlight.local/none:1"}}, early=False
    ),
    "no node with the accelerator": Case(
        "h100", {"model": TINY, "engine": {}, "resources": {"accelerator": "h100"}}, model=True
    ),
    "more than any node has": Case("no node takes the pod", {"resources": {"cpu": 30, "memory": "256Mi"}}, early=False),
    "credentials that are wrong": Case(
        "credentials|denied|InvalidAccessKeyId|SignatureDoesNotMatch|Forbidden",
        {
            "model": TINY,
            "engine": {},
            "resources": {"cpu": 0.02, "memory": "3Gi"},
            "pod": {"serviceAccountName": "models"},
        },
        model=True,
        early=False,
    ),
}


@pytest.fixture(scope="session")
def model(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The smallest that the platform takes: nobody computes with it."""
    folder = tmp_path_factory.mktemp("tiny")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 64,
        "intermediate_size": 128,
        "max_position_embeddings": 512,
        "torch_dtype": "float16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "WordLevel", "vocab": {}, "unk_token": "?"}}))
    save_file({name: np.zeros(shape, np.float16) for name, shape in weights().items()}, folder / "model.safetensors")
    cluster.pilotlight("models", "push", str(folder), TINY)


def weights() -> dict[str, tuple[int, ...]]:
    """Shapes of the model's tensors: sizing checks that none is missing."""
    layer = {
        "self_attn.q_proj": (64, 64),
        "self_attn.k_proj": (32, 64),
        "self_attn.v_proj": (32, 64),
        "self_attn.o_proj": (64, 64),
        "mlp.gate_proj": (128, 64),
        "mlp.up_proj": (128, 64),
        "mlp.down_proj": (64, 128),
        "input_layernorm": (64,),
        "post_attention_layernorm": (64,),
    }
    layers = {f"layers.{number}.{name}": shape for number in range(2) for name, shape in layer.items()}
    whole = {"embed_tokens": (64, 64), "norm": (64,), **layers}
    return {f"model.{name}.weight": shape for name, shape in whole.items()} | {"lm_head.weight": (64, 64)}


def kubectl(*arguments: str, content: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["kubectl", *arguments], input=content, capture_output=True, text=True, timeout=60, check=False
    )


def says(text: str, words: str) -> bool:
    """Any of the words; line breaks of tables do not count."""
    flat = " ".join(text.split())
    return any(word in flat for word in words.split("|"))


def call(cluster: Cluster, function: str) -> httpx.Response:
    body = {"model": function, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    return httpx.post(f"{cluster.url}/v1/chat/completions", headers=cluster.headers, json=body, timeout=CALL_SECONDS)


def test_an_invalid_function_is_refused_when_it_is_applied(cluster: Cluster, namespace: str) -> None:
    del cluster
    manifest = {
        "apiVersion": "pilotlight.dev/v1alpha1",
        "kind": "Function",
        "metadata": {"name": "wrong", "namespace": namespace},
        "spec": {"model": "s3://models/x", "scale": {"min": 2, "max": 1}},
    }

    answer = kubectl("apply", "-f", "-", content=json.dumps(manifest))

    assert answer.returncode != 0
    assert "spec.scale.min" in answer.stderr
    assert kubectl("get", "fn", "wrong", "-n", namespace).returncode != 0


@pytest.mark.timeout(400)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_is_wrong_is_told_to_users_operators_and_callers(
    cluster: Cluster, namespace: str, request: pytest.FixtureRequest, case: Case
) -> None:
    if case.model:
        request.getfixturevalue("model")
    wrong_credentials(cluster, namespace)
    cluster.function(namespace, "chat", **case.spec)
    if case.early:
        wait_for(
            lambda: says(cluster.condition(namespace, "chat").get("message", ""), case.words),
            "Ready tells the reason",
            60,
        )
        assert cluster.condition(namespace, "chat")["status"] == "False"
        wait_for(lambda: says(warnings(namespace), case.words), "a warning among its events tells it", 30)
    else:
        cluster.until_ready(namespace, "chat")

    # Whoever calls is told the reason, and long before a hold's end.
    wait_for(lambda: call(cluster, f"{namespace}/chat").status_code != 404, "activators know the function", 60)
    refused = call(cluster, f"{namespace}/chat")

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "function_failing")
    assert says(refused.json()["error"]["message"], case.words)
    assert "retry-after" in refused.headers
    wait_for(lambda: cluster.condition(namespace, "chat").get("status") == "False", "Ready is False", 60)
    wait_for(
        lambda: says(kubectl("describe", "fn", "chat", "-n", namespace).stdout, case.words), "kubectl tells it", 60
    )
    assert says(described(cluster, f"{namespace}/chat"), case.words)


def warnings(namespace: str) -> str:
    """Of the namespace's function, one a line."""
    chosen = "involvedObject.kind=Function,type=Warning"
    return kubectl(
        "get", "events", "-n", namespace, "--field-selector", chosen, "-o", "jsonpath={.items[*].message}"
    ).stdout


def described(cluster: Cluster, function: str) -> str:
    """By the command line; of a function that was never taken there is nothing but the reason."""
    known = httpx.get(f"{cluster.url}/api/v1alpha1/functions/{function}", headers=cluster.headers).status_code == 200
    return cluster.pilotlight("describe", function, code=0 if known else 1)


def wrong_credentials(cluster: Cluster, namespace: str) -> None:
    """A service account whose pods read the model store with a key that nobody has."""
    secret = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"}
    cluster.api.create(SECRET, {"metadata": {"namespace": namespace, "name": "wrong"}, "stringData": secret})
    annotations = {"pilotlight.dev/s3-secret": "wrong"}
    account = {"metadata": {"namespace": namespace, "name": "models", "annotations": annotations}}
    cluster.api.create(SERVICE_ACCOUNT, account)
