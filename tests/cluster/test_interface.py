"""The commands of one machine against a cluster: through the HTTP interface and not through `kubectl`."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import yaml
from tests.cluster.conftest import Cluster, wait_for

BODY = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}


@pytest.mark.timeout(400)
def test_a_function_is_deployed_called_looked_into_and_deleted(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    name = f"{namespace}/chat"
    manifest = {
        "apiVersion": "pilotlight.dev/v1alpha1",
        "kind": "Function",
        "metadata": {"name": "chat", "namespace": namespace},
        "spec": {
            "model": "s3://models/simulated:v1",
            "engine": {"kind": "simulated"},
            "resources": {"cpu": 0.02, "memory": "256Mi"},
            "scale": {"max": 1, "keepAlive": "10s"},
        },
    }
    path = tmp_path / "chat.yaml"
    path.write_text(yaml.safe_dump(manifest))

    assert "created" in cluster.pilotlight("deploy", "-f", str(path))
    cluster.until_ready(namespace, "chat")
    answer = httpx.post(f"{cluster.url}/f/{name}/v1/chat/completions", headers=cluster.headers, json=BODY, timeout=180)
    assert answer.status_code == 200, answer.text
    assert cluster.pilotlight("logs", name).strip()
    assert "unchanged" in cluster.pilotlight("deploy", "-f", str(path))

    cluster.pilotlight("delete", name)
    wait_for(lambda: not cluster.remains(namespace, "chat"), "nothing remains of the function", 180)
