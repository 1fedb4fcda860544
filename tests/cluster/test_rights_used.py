"""What our processes used of their rights, as they log it, beside what they were granted.

Run last, against a cluster in which the other tests of this folder have just been: a right shows once it has been used.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
from kubernetes import client, config

from pilotlight.platform.doctor.permissions import granted
from pilotlight.platform.install.installer import SYSTEM
from pilotlight.platform.install.rendering import manifests, render
from pilotlight.platform.kubernetes.api import USED, Api
from pilotlight.platform.kubernetes.kinds import POD
from pilotlight.platform.kubernetes.uses import Use

KUBECONFIG = os.environ.get("PILOTLIGHT_TEST_KUBECONFIG", "")
pytestmark = pytest.mark.skipif(
    not (KUBECONFIG and os.environ.get("PILOTLIGHT_TEST_RIGHTS")),
    reason="PILOTLIGHT_TEST_RIGHTS is not set: no run of the other cluster tests is there to be looked at",
)
LINES = 100_000
NEVER_CALLED = {
    Use(
        "update", "pilotlight.dev", "functions/finalizers"
    ): "asked for by an admission plugin that not every cluster has",
    Use("update", "autoscaling.internal.knative.dev", "podautoscalers/finalizers"): "the same",
}


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    settings = client.Configuration()
    config.load_kube_config(config_file=KUBECONFIG, client_configuration=settings)
    api = Api(client.ApiClient(settings))
    yield api
    api.close()


def used(api: Api, component: str) -> set[Use]:
    """By all replicas together: only one leads."""
    pods = api.list(POD, SYSTEM, labels=f"app.kubernetes.io/name=pilotlight-{component}").items
    assert pods, f"no pod of {component}"
    lines = (line for pod in pods for line in api.log(SYSTEM, pod["metadata"]["name"], component, LINES, follow=False))
    events = (json.loads(line) for line in lines if USED.encode() in line)
    return {Use(e["verb"], e["group"], e["resource"]) for e in events if e.get("event") == USED}


@pytest.mark.parametrize("component", ["operator", "activator"])
def test_every_right_that_is_granted_is_used_and_none_is_missing(api: Api, component: str) -> None:
    rights = granted(render(manifests() / "overlays" / "production"), f"pilotlight-{component}")
    allowed = {Use(r.verb, r.group, "/".join(filter(None, (r.resource, r.subresource)))) for r in rights}

    seen = used(api, component)
    assert seen <= allowed, "used and not granted"
    assert allowed - seen <= NEVER_CALLED.keys(), "granted and not used"
