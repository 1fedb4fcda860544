"""The traffic of a function's Knative Service, as users set it, on a real cluster."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import pytest
from tests.cluster.conftest import Cluster, wait_for

from pilotlight.platform.kubernetes.kinds import (
    INGRESS,
    KNATIVE_SERVICE,
    REVISION,
    SECRET,
    SERVICE_ACCOUNT,
    labels_of,
)

OLD, NEW = "chat-00001", "chat-00002"
BODY = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
REVISION_LABEL = "serving.knative.dev/revision"


def ask(cluster: Cluster, host: str = "", model: str = "chat") -> str:
    """One request; the revision that answered."""
    headers = cluster.headers | ({"Host": host} if host else {})
    url = f"{cluster.url}/v1/chat/completions"
    answer = httpx.post(url, headers=headers, json={**BODY, "model": model}, timeout=180)
    assert answer.status_code == 200, answer.text
    return answer.headers["X-Pilotlight-Revision"]


def ask_many(cluster: Cluster, host: str = "", model: str = "chat", requests: int = 24) -> Counter[str]:
    with ThreadPoolExecutor(requests) as threads:
        return Counter(threads.map(lambda _: ask(cluster, host, model), range(requests)))


def two_revisions(cluster: Cluster, namespace: str) -> None:
    for tokens, revision in ((1000, OLD), (2000, NEW)):
        engine = {"kind": "simulated", "simulated": {"meanTokens": tokens}}
        cluster.function(namespace, "chat", engine=engine)
        wait_for(partial(is_latest, cluster, namespace, revision), f"{revision} is there", 120)
    cluster.until_ready(namespace, "chat")


def is_latest(cluster: Cluster, namespace: str, revision: str) -> bool:
    service = cluster.api.get(KNATIVE_SERVICE, namespace, "chat")
    return bool(service.get("status", {}).get("latestReadyRevisionName") == revision)


def direct(cluster: Cluster, namespace: str, *traffic: dict[str, Any]) -> None:
    """As `kubectl patch` does; returns when the ingress says so."""
    cluster.api.patch(KNATIVE_SERVICE, namespace, "chat", {"spec": {"traffic": list(traffic)}})
    hosts = {f"{each['tag']}-chat.{namespace}" for each in traffic if "tag" in each}

    def programmed() -> bool:
        rules = cluster.api.get(INGRESS, namespace, "chat")["spec"]["rules"]
        own = next(rule for rule in rules if f"chat.{namespace}" in rule["hosts"])
        splits = {split["serviceName"]: split.get("percent") for split in own["http"]["paths"][0]["splits"]}
        wanted = {each["revisionName"]: each["percent"] for each in traffic if each["percent"]}
        return splits == wanted and hosts <= {host for rule in rules for host in rule["hosts"]}

    wait_for(programmed, "the ingress has the traffic", 60)
    cluster.until_ready(namespace, "chat")


def running(cluster: Cluster, namespace: str) -> set[str]:
    return {labels_of(pod)[REVISION_LABEL] for pod in cluster.pods(namespace, "chat")}


@pytest.mark.timeout(600)
def test_percentages_and_tags_are_honoured_and_every_revision_scales_by_itself(
    cluster: Cluster, namespace: str
) -> None:
    two_revisions(cluster, namespace)
    own, tagged = f"chat.{namespace}.svc.cluster.local", f"old-chat.{namespace}.svc.cluster.local"

    direct(
        cluster,
        namespace,
        {"revisionName": OLD, "percent": 0, "tag": "old"},
        {"revisionName": NEW, "percent": 100},
    )
    assert ask_many(cluster, tagged, requests=4) == {OLD: 4}
    assert running(cluster, namespace) == {OLD}

    direct(
        cluster,
        namespace,
        {"revisionName": OLD, "percent": 50, "tag": "old"},
        {"revisionName": NEW, "percent": 50},
    )
    split = ask_many(cluster, own)
    assert split.keys() == {OLD, NEW}
    assert min(split.values()) >= 2  # of 24: less is a chance of 1 in 300,000
    assert ask_many(cluster, model=f"{namespace}/chat").keys() == {OLD, NEW}
    assert ask_many(cluster, tagged, requests=4) == {OLD: 4}
    assert running(cluster, namespace) == {OLD, NEW}

    cluster.until_zero(namespace, "chat")
    assert ask(cluster, tagged) == OLD


@pytest.mark.timeout(300)
def test_pods_have_the_credentials_of_their_service_account(cluster: Cluster, namespace: str) -> None:
    pod = {"serviceAccountName": "models"}
    cluster.function(namespace, "chat", pod=pod)
    refused = wait_for(lambda: _refused(cluster, namespace), "the missing account is told", 60)
    assert (
        refused == f"there is no ServiceAccount models in {namespace}; make it, or change spec.pod.serviceAccountName"
    )

    annotations = {"pilotlight.dev/s3-secret": "s3"}
    account = {"metadata": {"namespace": namespace, "name": "models", "annotations": annotations}}
    cluster.api.apply(SERVICE_ACCOUNT, {"apiVersion": "v1", "kind": "ServiceAccount", **account})
    secret = {"metadata": {"namespace": namespace, "name": "s3"}, "stringData": {"AWS_ACCESS_KEY_ID": "theirs"}}
    cluster.api.apply(SECRET, {"apiVersion": "v1", "kind": "Secret", **secret})
    cluster.until_ready(namespace, "chat")

    service = cluster.api.get(KNATIVE_SERVICE, namespace, "chat")
    (container,) = service["spec"]["template"]["spec"]["containers"]
    assert [each["secretRef"]["name"] for each in container["envFrom"]] == ["chat-00001-pilotlight", "s3"]
    ours = cluster.api.get(SECRET, namespace, "chat-00001-pilotlight")["data"]
    assert "AWS_ENDPOINT_URL_S3" in ours
    assert not ours.keys() & {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def _refused(cluster: Cluster, namespace: str) -> str:
    found = cluster.condition(namespace, "chat", "Routed")
    return str(found["message"]) if found.get("reason") == "ObjectsRefused" else ""


@pytest.mark.timeout(600)
def test_a_change_of_the_autoscaler_hands_over_to_a_new_revision(cluster: Cluster, namespace: str) -> None:
    cluster.function(namespace, "chat")
    cluster.until_ready(namespace, "chat")
    assert ask(cluster, model=f"{namespace}/chat") == OLD

    cluster.function(namespace, "chat", scale={"max": 1, "keepAlive": "10s", "autoscaler": "kpa"})
    wait_for(lambda: is_latest(cluster, namespace, NEW), f"{NEW} is there", 120)
    wait_for(lambda: ask(cluster, model=f"{namespace}/chat") == NEW, f"{NEW} answers", 120)

    annotations = cluster.api.get(REVISION, namespace, NEW)["metadata"]["annotations"]
    assert annotations["autoscaling.knative.dev/class"] == "kpa.autoscaling.knative.dev"
    wait_for(lambda: running(cluster, namespace) == {NEW}, f"{OLD} is gone", 180)
    cluster.until_zero(namespace, "chat", 400)
