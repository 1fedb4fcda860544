"""The Knative Service of a revision: what the API server, Knative's webhook and the pod need of it."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from pilotlight.platform.kubernetes.kinds import FUNCTION_LABEL
from pilotlight.platform.kubernetes.knative.service import (
    PodPlan,
    Timeouts,
    knative_service,
    most_seconds,
    revision_secret,
    service_change,
    storage_secret_of,
    unsuitable,
)
from pilotlight.platform.values import Policy

PlanOf = Callable[..., PodPlan]


def template_of(plan: PodPlan) -> Any:
    return knative_service(plan)["spec"]["template"]


def patched(current: Mapping[str, Any], patch: list[dict[str, Any]]) -> dict[str, Any]:
    """As the API server does it."""
    found: dict[str, Any] = {**current}
    for change in patch:
        assert change["op"] == "add"
        part, field = change["path"].strip("/").split("/")
        found[part] = {**found[part], field: change["value"]}
    return found


def test_a_revisions_name_begins_with_the_services(plan_of: PlanOf) -> None:
    service = knative_service(plan_of(number=12))

    assert service["metadata"]["name"] == "chat"
    assert service["spec"]["template"]["metadata"]["name"] == "chat-00012"


def test_what_is_made_for_a_function_carries_its_label_and_goes_with_it(plan_of: PlanOf) -> None:
    plan = plan_of()
    made = [knative_service(plan), revision_secret(plan, {})]

    for found in made:
        assert found["metadata"]["labels"][FUNCTION_LABEL] == "chat"
        assert [owner["uid"] for owner in found["metadata"]["ownerReferences"]] == ["u-function"]
    assert template_of(plan)["metadata"]["labels"][FUNCTION_LABEL] == "chat"


def test_our_class_starts_at_zero_and_leaves_the_cap_to_the_activator(plan_of: PlanOf) -> None:
    found = template_of(plan_of())

    assert found["metadata"]["annotations"] == {
        "autoscaling.knative.dev/class": "pilotlight.dev",
        "autoscaling.knative.dev/initial-scale": "0",
        "serving.knative.dev/progress-deadline": "1800s",
        "features.knative.dev/http-full-duplex": "Enabled",
    }
    assert found["spec"]["containerConcurrency"] == 0


def test_knatives_class_has_bounds_and_keeps_its_activator_in_the_path(plan_of: PlanOf) -> None:
    policy = Policy(minimum=1, maximum=3, keep_alive_seconds=7200.0)
    found = template_of(plan_of(policy=policy, autoscaler="kpa", slots=1024))

    annotations = {name.rpartition("/")[2]: value for name, value in found["metadata"]["annotations"].items()}
    assert annotations == {
        "class": "kpa.autoscaling.knative.dev",
        "initial-scale": "0",
        "progress-deadline": "1800s",
        "http-full-duplex": "Enabled",
        "min-scale": "1",
        "max-scale": "3",
        "target": "1000",
        "target-burst-capacity": "-1",
        "scale-to-zero-pod-retention-period": "3600s",
    }
    assert found["spec"]["containerConcurrency"] == 1000


@pytest.mark.parametrize(
    ("most", "request_seconds", "first"), [(600, 600, 600), (3600, 3600, 1800), (7200, 3600, 1800)]
)
def test_timeouts_are_no_longer_than_the_cluster_allows(
    plan_of: PlanOf, most: int, request_seconds: int, first: int
) -> None:
    spec = template_of(replace(plan_of(), timeouts=Timeouts(most=most)))["spec"]

    assert (spec["timeoutSeconds"], spec["responseStartTimeoutSeconds"]) == (request_seconds, first)


@pytest.mark.parametrize(
    ("defaults", "seconds"),
    [(None, 600), ({}, 600), ({"data": {}}, 600), ({"data": {"max-revision-timeout-seconds": "3600"}}, 3600)],
)
def test_the_clusters_bound_is_read_from_its_configuration(defaults: Any, seconds: int) -> None:
    assert most_seconds(defaults) == seconds


def test_memory_is_a_limit_and_processors_are_not(plan_of: PlanOf) -> None:
    (container,) = template_of(plan_of(cpus=1.5, memory_bytes=2**31))["spec"]["containers"]

    assert container["resources"] == {
        "requests": {"cpu": "1500m", "memory": "2147483648"},
        "limits": {"memory": "2147483648"},
    }


def test_accelerators_are_asked_for_by_number(plan_of: PlanOf) -> None:
    (container,) = template_of(plan_of(devices=2, accelerator="nvidia-h100"))["spec"]["containers"]

    assert container["resources"]["limits"]["nvidia.com/gpu"] == "2"


def test_nothing_restarts_a_slow_start(plan_of: PlanOf) -> None:
    (container,) = template_of(plan_of())["spec"]["containers"]

    assert container["readinessProbe"]["httpGet"]["path"] == "/health"
    assert not {"startupProbe", "livenessProbe"} & container.keys()


def test_a_pod_is_confined_to_its_two_volumes(plan_of: PlanOf) -> None:
    spec = template_of(plan_of())["spec"]
    (container,) = spec["containers"]

    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["runAsNonRoot"]
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp", "/dev/shm"]  # noqa: S108
    assert spec["volumes"][1]["emptyDir"] == {"medium": "Memory", "sizeLimit": str(2**30)}
    assert not spec["automountServiceAccountToken"]


def test_the_key_is_in_the_secret_and_nowhere_in_the_service(plan_of: PlanOf) -> None:
    plan = plan_of()
    secret = revision_secret(plan, {"AWS_REGION": "us-east-1"})
    (container,) = template_of(plan)["spec"]["containers"]

    assert {name: b64decode(value).decode() for name, value in secret["data"].items()} == {
        "AWS_REGION": "us-east-1",
        "PILOTLIGHT_ENGINE_KEY": "engine-key",
    }
    assert container["envFrom"] == [{"secretRef": {"name": secret["metadata"]["name"]}}]
    assert "engine-key" not in str(knative_service(plan))


def test_pods_with_credentials_of_their_own_never_see_the_platforms(plan_of: PlanOf) -> None:
    storage = {"AWS_ACCESS_KEY_ID": "ours", "AWS_SECRET_ACCESS_KEY": "ours", "AWS_ENDPOINT_URL_S3": "https://s3"}
    plan = replace(plan_of(), storage_secret="theirs")
    secret, service = revision_secret(plan, storage), knative_service(plan)
    (container,) = service["spec"]["template"]["spec"]["containers"]

    assert secret["data"].keys() == {"AWS_ENDPOINT_URL_S3", "PILOTLIGHT_ENGINE_KEY"}
    assert [each["secretRef"]["name"] for each in container["envFrom"]] == [secret["metadata"]["name"], "theirs"]


@pytest.mark.parametrize("storage_secret", ["", "theirs"])
def test_the_template_remembers_whose_credentials_its_pods_have(plan_of: PlanOf, storage_secret: str) -> None:
    service = knative_service(replace(plan_of(number=1), storage_secret=storage_secret))

    assert storage_secret_of(service, "chat-00001") == storage_secret
    assert storage_secret_of(service, "chat-00002") is None


def test_only_what_the_manifest_says_of_the_pod_is_said(plan_of: PlanOf) -> None:
    plain = template_of(plan_of())["spec"]
    given: dict[str, Any] = {
        "serviceAccountName": "reader",
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "priorityClassName": "high",
        "runtimeClassName": "nvidia",
    }
    told = template_of(plan_of(pod={**given, "imagePullSecrets": ["pull"], "image": "own/image:2"}))["spec"]

    assert not given.keys() & plain.keys()
    assert {name: told[name] for name in given} == given
    assert told["imagePullSecrets"] == [{"name": "pull"}]
    assert told["containers"][0]["image"] == "own/image:2"


def test_a_service_that_is_as_it_should_be_is_left_alone(plan_of: PlanOf) -> None:
    assert service_change(plan_of(), knative_service(plan_of())) == []


def test_a_template_under_the_same_name_is_never_sent_again(plan_of: PlanOf) -> None:
    newer_operator = replace(plan_of(), environment={"OTHER": "1"})

    assert service_change(newer_operator, knative_service(plan_of())) == []


def test_a_new_revision_replaces_the_whole_template(plan_of: PlanOf) -> None:
    current = knative_service(plan_of(pod={"nodeSelector": {"pool": "gpu"}}))

    result = patched(current, service_change(plan_of(number=2), current))

    assert result == knative_service(plan_of(number=2))


def test_foreign_edits_of_what_is_ours_are_put_right_and_others_stay(plan_of: PlanOf) -> None:
    wanted = knative_service(plan_of())
    current = {
        "metadata": {"labels": {"team": "a"}, "annotations": {"note": "b", **wanted["metadata"]["annotations"]}},
        "spec": {**wanted["spec"], "traffic": [{"revisionName": "chat-00001", "percent": 100}]},
    }

    result = patched(current, service_change(plan_of(), current))

    assert result["metadata"]["labels"] == {"team": "a", **wanted["metadata"]["labels"]}
    assert result["metadata"]["ownerReferences"] == wanted["metadata"]["ownerReferences"]
    assert result["spec"] == current["spec"]
    assert result["metadata"]["annotations"]["note"] == "b"


@pytest.mark.parametrize("name", ["a", "chat", "a" * 57, "a-1"])
def test_names_that_knative_takes(name: str) -> None:
    assert unsuitable(name) == ""


@pytest.mark.parametrize("name", ["7b-chat", "a" * 58, "a-"])
def test_names_that_knative_refuses_are_told_before_it_does(name: str) -> None:
    assert name in unsuitable(name)
