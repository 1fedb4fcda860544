"""What is applied confines every process as far as it can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from pilotlight.platform.kubernetes.kinds import Object
from pilotlight.platform.kubernetes.settings import ActivatorSettings, OperatorSettings

ALL = ("overlays/dev", "overlays/production", "dev+observability", "production+https", "function-namespace")
BY_OVERLAY = pytest.mark.parametrize("name", ALL)

Rendered = Callable[[str], Sequence[Object]]


def of_kind(objects: Sequence[Object], kind: str) -> list[Object]:
    return [found for found in objects if found["kind"] == kind]


def containers(deployment: Object) -> Iterator[Mapping[str, Any]]:
    pod = deployment["spec"]["template"]["spec"]
    yield from (*pod.get("initContainers", ()), *pod["containers"])


@BY_OVERLAY
def test_every_overlay_and_component_renders(rendered: Rendered, name: str) -> None:
    assert rendered(name)


@pytest.mark.parametrize("name", ["overlays/dev", "overlays/production"])
def test_an_overlay_brings_the_kind_along(rendered: Rendered, name: str) -> None:
    assert [found["metadata"]["name"] for found in of_kind(rendered(name), "CustomResourceDefinition")] == [
        "functions.pilotlight.dev"
    ]


@BY_OVERLAY
def test_every_container_is_confined(rendered: Rendered, name: str) -> None:
    for deployment in of_kind(rendered(name), "Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["enableServiceLinks"] is False
        assert "serviceAccountName" in pod or pod["automountServiceAccountToken"] is False
        for container in containers(deployment):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, container["name"]
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
            assert ":" in container["image"] or "@" in container["image"], "an image without a tag is any image"


@BY_OVERLAY
def test_no_secret_is_among_the_objects(rendered: Rendered, name: str) -> None:
    assert of_kind(rendered(name), "Secret") == []


def test_the_namespace_enforces_the_strictest_standard(rendered: Rendered) -> None:
    (namespace,) = of_kind(rendered("overlays/production"), "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("component", ["operator", "activator"])
def test_our_processes_are_probed_twofold_spread_and_rolled_without_a_gap(rendered: Rendered, component: str) -> None:
    objects = rendered("overlays/dev")
    name = f"pilotlight-{component}"
    deployment = next(found for found in of_kind(objects, "Deployment") if found["metadata"]["name"] == name)
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert deployment["spec"]["replicas"] == 2
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert container["command"] == ["pilotlight", component]
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert "topologySpreadConstraints" in pod or "affinity" in pod
    (budget,) = (found for found in of_kind(objects, "PodDisruptionBudget") if found["metadata"]["name"] == name)
    assert budget["spec"]["selector"] == deployment["spec"]["selector"]


@pytest.mark.parametrize(("component", "settings"), [("operator", OperatorSettings), ("activator", ActivatorSettings)])
@pytest.mark.parametrize("overlay", ["overlays/dev", "production+https"])
def test_every_variable_is_a_setting_and_every_setting_without_a_default_is_given(
    rendered: Rendered, overlay: str, component: str, settings: type[OperatorSettings | ActivatorSettings]
) -> None:
    deployment = next(
        found
        for found in of_kind(rendered(overlay), "Deployment")
        if found["metadata"]["name"] == f"pilotlight-{component}"
    )
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    given = {variable["name"].removeprefix("PILOTLIGHT_").lower() for variable in container["env"]}

    assert given <= settings.model_fields.keys()
    assert {name for name, field in settings.model_fields.items() if field.is_required()} <= given


def test_the_activator_may_take_as_long_to_end_as_its_streams(rendered: Rendered) -> None:
    deployment = next(
        found
        for found in of_kind(rendered("overlays/dev"), "Deployment")
        if found["metadata"]["name"] == "pilotlight-activator"
    )
    allowed = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    fields = ActivatorSettings.model_fields

    assert allowed > fields["shutdown_seconds"].default + fields["grace_seconds"].default


def test_the_number_of_activators_is_the_autoscalers_in_production(rendered: Rendered) -> None:
    objects = rendered("overlays/production")
    (scaler,) = of_kind(objects, "HorizontalPodAutoscaler")
    target = next(
        found
        for found in of_kind(objects, "Deployment")
        if found["metadata"]["name"] == scaler["spec"]["scaleTargetRef"]["name"]
    )
    assert "replicas" not in target["spec"]


def test_images_of_functions_follow_the_overlays_images(rendered: Rendered) -> None:
    deployment = next(
        found
        for found in of_kind(rendered("overlays/dev"), "Deployment")
        if found["metadata"]["name"] == "pilotlight-operator"
    )
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    values = {variable["name"]: variable.get("value") for variable in container["env"]}

    assert values["PILOTLIGHT_SIMULATED_IMAGE"] == container["image"] == "pilotlight.local/control:dev"
    assert values["PILOTLIGHT_RUNTIME_IMAGE"] == "pilotlight.local/runtime:dev"
