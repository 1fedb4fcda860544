"""What our processes used of their rights during the other tests of this folder, beside what they were granted."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cluster.conftest import LAST, Cluster

from pilotlight.platform.doctor.permissions import granted
from pilotlight.platform.install.rendering import manifests, render
from pilotlight.platform.kubernetes.uses import Use

NEVER_CALLED = {
    Use(
        "update", "pilotlight.dev", "functions/finalizers"
    ): "asked for by an admission plugin that not every cluster has",
    Use("update", "autoscaling.internal.knative.dev", "podautoscalers/finalizers"): "the same",
}


@pytest.fixture
def after_all_others(request: pytest.FixtureRequest) -> None:
    here, config = Path(__file__).parent, request.config
    ran = {item.path for item in request.session.items}
    missing = {path.name for path in here.glob("test_*.py")} - {path.name for path in ran if path.parent == here}
    if missing or config.option.keyword or config.option.markexpr or request.session.testsfailed:
        pytest.skip(f"says nothing without all other tests of the folder, passed: {', '.join(sorted(missing))}")


@LAST
@pytest.mark.usefixtures("after_all_others")
@pytest.mark.parametrize("component", ["operator", "activator"])
def test_every_right_that_is_granted_is_used_and_none_is_missing(cluster: Cluster, component: str) -> None:
    rights = granted(render(manifests() / "overlays" / "production"), f"pilotlight-{component}")
    allowed = {Use(r.verb, r.group, "/".join(filter(None, (r.resource, r.subresource)))) for r in rights}

    seen = cluster.rights.by(component)
    assert seen <= allowed, "used and not granted"
    assert allowed - seen <= NEVER_CALLED.keys(), "granted and not used"
