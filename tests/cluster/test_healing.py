"""What others take away of what a function is made of comes back."""

from __future__ import annotations

import httpx
import pytest
from tests.cluster.conftest import SYSTEM, Cluster, wait_for

from pilotlight.platform.kubernetes.kinds import DEPLOYMENT, LEASE, SECRET, SERVERLESS_SERVICE
from pilotlight.platform.kubernetes.knative.names import deployment_name, secret_name
from pilotlight.platform.kubernetes.operator import LEASE as LEADERSHIP

BODY = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}


@pytest.mark.timeout(400)
def test_a_revisions_secret_that_was_deleted_is_there_again_for_whoever_waits(cluster: Cluster, namespace: str) -> None:
    cluster.function(namespace, "chat")
    cluster.until_ready(namespace, "chat")
    cluster.api.delete(SECRET, namespace, secret_name("chat-00001"))

    url = f"{cluster.url}/f/{namespace}/chat/v1/chat/completions"
    answer = httpx.post(url, headers=cluster.headers, json=BODY, timeout=180)

    assert answer.status_code == 200, answer.text
    assert cluster.api.get(SECRET, namespace, secret_name("chat-00001"))["metadata"]["labels"]


def test_a_foreign_edit_of_what_knative_routes_by_is_put_right(cluster: Cluster, namespace: str) -> None:
    cluster.function(namespace, "chat")
    cluster.until_ready(namespace, "chat")

    cluster.api.patch(SERVERLESS_SERVICE, namespace, "chat-00001", {"spec": {"mode": "Serve"}})

    def mode() -> str:
        return str(cluster.api.get(SERVERLESS_SERVICE, namespace, "chat-00001")["spec"]["mode"])

    wait_for(lambda: mode() == "Proxy", "it is as it was", 60)
    assert mode() == "Proxy"


@pytest.mark.timeout(300)
def test_a_count_that_others_raise_of_a_function_at_rest_is_zero_again(cluster: Cluster, namespace: str) -> None:
    cluster.function(namespace, "chat", scale={"max": 1, "keepAlive": "2s"})
    cluster.until_ready(namespace, "chat")
    name = deployment_name("chat-00001")

    cluster.api.patch(DEPLOYMENT, namespace, name, {"spec": {"replicas": 1}})

    wait_for(lambda: cluster.api.get(DEPLOYMENT, namespace, name)["spec"]["replicas"] == 0, "it is zero again", 60)
    cluster.until_zero(namespace, "chat")
    assert cluster.api.get(DEPLOYMENT, namespace, name)["spec"]["replicas"] == 0


@pytest.mark.timeout(300)
def test_a_lease_that_was_deleted_is_made_again_by_whoever_leads_then(cluster: Cluster, namespace: str) -> None:
    cluster.api.delete(LEASE, SYSTEM, LEADERSHIP)

    wait_for(lambda: cluster.api.get(LEASE, SYSTEM, LEADERSHIP)["spec"]["holderIdentity"], "one leads", 60)
    cluster.function(namespace, "chat")
    cluster.until_ready(namespace, "chat")
    assert cluster.api.get(LEASE, SYSTEM, LEADERSHIP)["spec"]["holderIdentity"]
