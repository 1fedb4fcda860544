"""Images that are replaced, and manifests that do not render."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotlight.platform.install.errors import InstallError
from pilotlight.platform.install.rendering import manifests, overlays, render, with_images
from pilotlight.platform.kubernetes.kinds import Object

OPERATOR: Object = {
    "kind": "Deployment",
    "metadata": {"name": "pilotlight-operator"},
    "spec": {
        "replicas": 2,
        "template": {
            "spec": {
                "initContainers": [{"name": "bucket", "image": "control:1"}],
                "containers": [
                    {
                        "name": "operator",
                        "image": "control:1",
                        "env": [
                            {"name": "PILOTLIGHT_RUNTIME_IMAGE", "value": "runtime:1"},
                            {"name": "PILOTLIGHT_SIMULATED_IMAGE", "value": "control:1"},
                            {"name": "PILOTLIGHT_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                        ],
                    }
                ],
            }
        },
    },
}
SERVICE: Object = {"kind": "Service", "metadata": {"name": "pilotlight-control"}, "spec": {}}


def test_the_control_image_is_replaced_wherever_it_runs() -> None:
    changed, service = with_images([OPERATOR, SERVICE], {"control": "control:2"})
    pod = changed["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert pod["initContainers"][0]["image"] == container["image"] == "control:2"
    assert [variable.get("value") for variable in container["env"]] == ["runtime:1", "control:2", None]
    assert changed["spec"]["replicas"] == 2
    assert service == SERVICE


def test_the_runtime_image_is_a_setting() -> None:
    (changed,) = with_images([OPERATOR], {"runtime": "runtime:2"})
    (container,) = changed["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "control:1"
    assert container["env"][0]["value"] == "runtime:2"


def test_without_other_images_nothing_changes() -> None:
    assert with_images([OPERATOR, SERVICE], {}) == (OPERATOR, SERVICE)


def test_the_overlays_are_found() -> None:
    assert overlays() == ("dev", "production")
    assert (manifests() / "base" / "kustomization.yaml").is_file()


def test_without_kubectl_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InstallError, match="kubectl is not on the PATH"):
        render(manifests() / "overlays" / "dev")


def test_what_does_not_render_is_told_in_kubectls_words(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: [gone.yaml]\n")
    with pytest.raises(InstallError, match="does not render") as caught:
        render(tmp_path)
    assert "gone.yaml" in "\n".join(caught.value.details)
