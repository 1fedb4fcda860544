"""What a real API server makes of manifests: the valid ones it takes, broken ones it refuses and names the field."""

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilotlight.platform.kubernetes.crd import render
from pilotlight.platform.manifest import ManifestError, load, parse
from pilotlight.platform.manifest.docs import FULL, SHORTEST
from pilotlight.platform.manifest.objects import from_object, to_object

KUBECONFIG = os.environ.get("PILOTLIGHT_TEST_KUBECONFIG", "")
pytestmark = pytest.mark.skipif(not KUBECONFIG, reason="PILOTLIGHT_TEST_KUBECONFIG names no cluster")
NAMESPACE = f"pilotlight-test-{uuid.uuid4().hex[:6]}"
EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
POD = """\
apiVersion: pilotlight.dev/v1alpha1
kind: Function
metadata: {name: placed}
spec:
  model: s3://models/x
  scale: {min: 1, max: 2, autoscaler: kpa}
  pod:
    serviceAccountName: models
    imagePullSecrets: [registry]
    nodeSelector: {pool: gpu}
    tolerations: [{key: gpu, operator: Exists, effect: NoExecute, tolerationSeconds: 60}]
    priorityClassName: high
    runtimeClassName: nvidia
    image: registry.example/runtime@sha256:aa
"""
VALID = {"shortest": SHORTEST, "full": FULL, "pod": POD} | {path.stem: path.read_text() for path in EXAMPLES}
ADAPTER = {"name": "legal", "model": "s3://models/legal"}

REFUSED = {
    "spec.model": {},
    "spec.task": {"task": "sing"},
    "spec.slo.ttft": {"slo": {"class": "batch", "ttft": "2s"}},
    "spec.slo.itl": {"slo": {"itl": "0s"}},
    "spec.slo.deadline": {"slo": {"deadline": "1h"}},
    "spec.scale.min": {"scale": {"min": 2, "max": 1}},
    "spec.scale.max": {"scale": {"max": 1001}},
    "spec.scale.keepAlive": {"scale": {"keepAlive": 300}},
    "spec.scale.maxx": {"scale": {"maxx": 1}},
    "spec.resources.count": {"resources": {"count": 1}},
    "spec.resources.memory": {"resources": {"memory": "4GB"}},
    "spec.resources.cpu": {"resources": {"cpu": 0}},
    "spec.adapters": {"task": "embed", "adapters": [ADAPTER]},
    ".spec.adapters: duplicate entries": {"adapters": [ADAPTER, ADAPTER]},
    "spec.engine.simulated": {"engine": {"simulated": {"jitter": 0.1}}},
    "spec.engine.enableAutoToolChoice": {"engine": {"enableAutoToolChoice": True}},
    "spec.engine.maxNumBatchedTokens": {"engine": {"maxNumSeqs": 8, "maxNumBatchedTokens": 4}},
    "spec.engine.maxLoras": {"engine": {"maxLoras": 2}},
    "spec.engine.gpuMemoryUtilization": {"engine": {"gpuMemoryUtilization": 0.5}},
    "spec.engine.tensorParallelSize": {"resources": {"accelerator": "h100"}, "engine": {"tensorParallelSize": 2}},
    "spec.pod.tolerations[0].operator": {"pod": {"tolerations": [{"value": "a"}]}},
    "spec.pod.tolerations[0].value": {"pod": {"tolerations": [{"key": "a", "value": "b", "operator": "Exists"}]}},
    "spec.pod.tolerations[0].tolerationSeconds": {"pod": {"tolerations": [{"key": "a", "tolerationSeconds": 1}]}},
    "spec.pod.image": {"pod": {"image": "a b"}},
}
LATER = {
    "spec.scale.keepAlive": {"scale": {"keepAlive": "0.0001s"}},
    "spec.resources.memory": {"resources": {"memory": "0.1"}},
    "spec.model": {"model": "s3://models"},
    "spec.pod.nodeSelector.-": {"pod": {"nodeSelector": {"-": "a"}}},
}
"""What a structural schema cannot say, the platform's own validation does."""


def kubectl(*arguments: str, content: str = "") -> "subprocess.CompletedProcess[str]":
    command = ["kubectl", f"--kubeconfig={KUBECONFIG}", *arguments]
    return subprocess.run(command, input=content, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module", autouse=True)
def namespace() -> Iterator[None]:
    applied = kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", content=render())
    assert applied.returncode == 0, applied.stderr
    kubectl("wait", "--for=condition=Established", "crd/functions.pilotlight.dev", "--timeout=30s")
    kubectl("create", "namespace", NAMESPACE)
    yield
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def dry_run(content: dict[str, Any]) -> "subprocess.CompletedProcess[str]":
    content = deepcopy(content)
    content["metadata"]["namespace"] = NAMESPACE
    arguments = ("apply", "--server-side", "--dry-run=server", "-o", "json", "-f", "-")
    return kubectl(*arguments, content=json.dumps(content))


def manifest(spec: dict[str, Any], field: str) -> dict[str, Any]:
    whole = spec if field == "spec.model" else {"model": "s3://models/x"} | spec
    return {
        "apiVersion": "pilotlight.dev/v1alpha1",
        "kind": "Function",
        "metadata": {"name": "chat"},
        "spec": whole,
    }


@pytest.mark.parametrize("text", VALID.values(), ids=VALID)
def test_a_valid_manifest_is_taken_and_means_the_same(text: str) -> None:
    for function, document in zip(load(text, "fn.yaml"), yaml.safe_load_all(text), strict=True):
        for content in (document, to_object(function)):
            answer = dry_run(content)
            assert answer.returncode == 0, answer.stderr
            assert from_object(json.loads(answer.stdout)).spec == function.spec


@pytest.mark.parametrize(("field", "spec"), REFUSED.items(), ids=REFUSED)
def test_a_broken_manifest_is_refused_with_its_field(field: str, spec: dict[str, Any]) -> None:
    answer = dry_run(manifest(spec, field))

    assert answer.returncode != 0
    assert field in answer.stderr
    with pytest.raises(ManifestError):
        parse(manifest(spec, field), "chat")


def test_an_adapter_with_the_functions_name_is_refused() -> None:
    answer = dry_run(manifest({"adapters": [ADAPTER | {"name": "chat"}]}, ""))

    assert answer.returncode != 0
    assert "spec.adapters" in answer.stderr


@pytest.mark.parametrize(("field", "spec"), LATER.items(), ids=LATER)
def test_what_only_the_platform_refuses(field: str, spec: dict[str, Any]) -> None:
    answer = dry_run(manifest(spec, field))

    assert answer.returncode == 0, answer.stderr
    with pytest.raises(ManifestError, match=field.replace(".", r"\.")):
        from_object(json.loads(answer.stdout))
