"""An installation and the doctor on a real API server, in a namespace of their own."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest
from kubernetes import client, config

from pilotlight.platform.doctor.checks import judge
from pilotlight.platform.doctor.findings import Level
from pilotlight.platform.doctor.gathering import Gatherer
from pilotlight.platform.install.errors import InstallError
from pilotlight.platform.install.installer import Installer
from pilotlight.platform.install.rendering import manifests, render
from pilotlight.platform.install.rollout import Rollout
from pilotlight.platform.install.secrets import Plan
from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.errors import NotFoundError
from pilotlight.platform.kubernetes.kinds import NAMESPACE, SECRET, Object

KUBECONFIG = os.environ.get("PILOTLIGHT_TEST_KUBECONFIG", "")
pytestmark = pytest.mark.skipif(not KUBECONFIG, reason="PILOTLIGHT_TEST_KUBECONFIG names no cluster with Knative")
NO_SECRETS = Plan({}, (), ())


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    settings = client.Configuration()
    config.load_kube_config(config_file=KUBECONFIG, client_configuration=settings)
    api = Api(client.ApiClient(settings))
    yield api
    api.close()


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    """A name; what is made in it is deleted."""
    name = f"pilotlight-test-{secrets.token_hex(3)}"
    yield name
    api.delete(NAMESPACE, "", name)


def objects(namespace: str, replicas: int, image: str = "pilotlight.local/none:1") -> tuple[Object, ...]:
    labels = {"app": "pilotlight-test"}
    confined = {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    key = {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "pilotlight-admin", "key": "key"}}}
    container = {
        "name": "operator",
        "image": image,
        "imagePullPolicy": "Never",
        "env": [key],
        "securityContext": confined,
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"namespace": namespace, "name": "pilotlight-test"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}, deployment


def install(api: Api, wanted: tuple[Object, ...], namespace: str) -> dict[str, str]:
    installer = Installer(api, wanted, namespace=namespace)
    return {f"{each.kind} {each.name}": each.outcome for each in installer.apply(installer.secrets())}


def test_installing_twice_changes_nothing_and_keeps_the_secret(api: Api, namespace: str) -> None:
    wanted = objects(namespace, replicas=0)

    first = install(api, wanted, namespace)
    made = api.get(SECRET, namespace, "pilotlight-admin")["data"]
    # The first status of a Deployment may come between; what we said of it is the same.
    second = install(api, wanted, namespace)

    names = (f"Namespace {namespace}", "Secret pilotlight-admin", "Deployment pilotlight-test")
    assert first == dict.fromkeys(names, "created")
    assert second == dict(zip(names, ("unchanged", "kept", "unchanged"), strict=True))
    assert api.get(SECRET, namespace, "pilotlight-admin")["data"] == made
    assert Installer(api, wanted, namespace=namespace).admin_key().startswith("pl-")


def test_waiting_ends_when_everything_is_available(api: Api, namespace: str) -> None:
    wanted = objects(namespace, replicas=0)
    install(api, wanted, namespace)

    (seen,) = Installer(api, wanted, namespace=namespace).wait(60.0, lambda _: None)
    assert seen.done


def test_an_image_that_is_not_there_is_told_while_waiting_and_at_the_end(api: Api, namespace: str) -> None:
    wanted = objects(namespace, replicas=1)
    install(api, wanted, namespace)
    told: list[Rollout] = []

    with pytest.raises(InstallError) as caught:
        Installer(api, wanted, namespace=namespace).wait(10.0, told.append)

    assert any("ErrImageNeverPull" in seen.reason for seen in told)
    assert "ErrImageNeverPull" in "\n".join(caught.value.details)


def test_a_change_is_told_apart(api: Api, namespace: str) -> None:
    install(api, objects(namespace, replicas=0), namespace)
    again = install(api, objects(namespace, replicas=0, image="pilotlight.local/none:2"), namespace)
    assert again["Deployment pilotlight-test"] == "changed"


def test_a_dry_run_makes_nothing(api: Api, namespace: str) -> None:
    installer = Installer(api, objects(namespace, replicas=0), dry_run=True, namespace=namespace)
    outcomes = [each.outcome for each in installer.apply(installer.secrets())]

    assert outcomes == ["created", "created", "unchecked"]
    with pytest.raises(NotFoundError):
        api.get(NAMESPACE, "", namespace)


@pytest.mark.parametrize("overlay", ["dev", "production"])
def test_the_api_server_accepts_every_object_of_an_overlay(api: Api, namespace: str, overlay: str) -> None:
    """In another namespace, because dry runs of namespaced objects need one that is there."""
    api.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    wanted = [moved(found, namespace) for found in render(manifests() / "overlays" / overlay)]
    installer = Installer(api, wanted, dry_run=True, namespace=namespace)

    outcomes = {each.outcome for each in installer.apply(NO_SECRETS)}
    assert outcomes <= {"created", "changed", "unchanged"}


def moved(found: Object, namespace: str) -> Object:
    metadata = dict(found["metadata"])
    if metadata.get("namespace") == "pilotlight-system":
        metadata["namespace"] = namespace
    if found["kind"] == "Namespace":
        metadata["name"] = namespace
    return {**found, "metadata": metadata}


def test_the_doctor_reads_all_of_a_real_cluster(api: Api) -> None:
    facts = Gatherer(api, render(manifests() / "overlays" / "production")).facts(with_probe=False)
    findings = {each.check: each for each in judge(facts)}

    assert facts.unread == {}
    assert findings["Kubernetes"].level is Level.OK
    assert findings["clocks"].level is Level.OK
    assert findings["Knative Serving"].level is not Level.PROBLEM
    assert findings["rights to install"].level is Level.OK
