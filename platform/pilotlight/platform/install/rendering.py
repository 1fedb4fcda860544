"""From the manifests to the objects of one overlay; `kubectl` does the rendering."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pilotlight.platform.install.errors import InstallError
from pilotlight.platform.kubernetes.kinds import Object

RENDER_SECONDS = 60.0
IMAGES: Mapping[str, tuple[str, ...]] = {
    "control": ("PILOTLIGHT_SIMULATED_IMAGE",),
    "runtime": ("PILOTLIGHT_RUNTIME_IMAGE",),
    "minio": (),
    "postgres": (),
}
"""What `--image` may replace, and the settings that name the same image."""
_OWN_CONTAINERS = {"operator": "control", "activator": "control", "bucket": "control"}
"""Containers that run an image of another name than their own."""


def manifests() -> Path:
    """The folder that came with the package, else the repository's."""
    packaged = Path(__file__).with_name("manifests")
    return packaged if packaged.is_dir() else Path(__file__).parents[4] / "manifests"


def overlays() -> tuple[str, ...]:
    return tuple(sorted(path.parent.name for path in manifests().glob("overlays/*/kustomization.yaml")))


def render(folder: Path) -> tuple[Object, ...]:
    """The objects of a kustomization, in the order in which they can be applied. Raises InstallError."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise InstallError("kubectl is not on the PATH, and it renders the manifests: install it, 1.27 or later")
    try:
        done = subprocess.run(
            [kubectl, "kustomize", str(folder)], capture_output=True, text=True, timeout=RENDER_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InstallError(f"kubectl took more than {RENDER_SECONDS:.0f} s to render {folder}") from error
    if done.returncode:
        raise InstallError(f"{folder} does not render", tuple(done.stderr.strip().splitlines()))
    return tuple(found for found in yaml.safe_load_all(done.stdout) if found)


def with_images(objects: Sequence[Object], images: Mapping[str, str]) -> tuple[Object, ...]:
    """The objects with other images; `images` by the keys of `IMAGES`."""
    settings = {setting: image for name, image in images.items() for setting in IMAGES[name]}
    return tuple(_with_images(found, images, settings) for found in objects)


def _with_images(found: Object, images: Mapping[str, str], settings: Mapping[str, str]) -> Object:
    if found["kind"] != "Deployment":
        return found
    pod = found["spec"]["template"]["spec"]
    changed = {
        part: [_container(container, images, settings) for container in pod[part]]
        for part in ("initContainers", "containers")
        if part in pod
    }
    template = {**found["spec"]["template"], "spec": {**pod, **changed}}
    return {**found, "spec": {**found["spec"], "template": template}}


def _container(
    container: Mapping[str, Any], images: Mapping[str, str], settings: Mapping[str, str]
) -> Mapping[str, Any]:
    name = container["name"]
    changed = {**container, "image": images.get(_OWN_CONTAINERS.get(name, name), container["image"])}
    if "env" in container:
        changed["env"] = [
            {**each, "value": settings[each["name"]]} if each["name"] in settings else each for each in container["env"]
        ]
    return changed


def deployments(objects: Sequence[Object]) -> Iterator[Object]:
    return (found for found in objects if found["kind"] == "Deployment")
