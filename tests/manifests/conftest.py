"""The manifests, rendered as they are applied."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest

from pilotlight.platform.install.rendering import manifests, render
from pilotlight.platform.kubernetes.kinds import Object

Rendered = Callable[[str], Sequence[Object]]


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """By path below `manifests/`; `dev+observability` is the overlay with the component."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not on the PATH")
    # Kustomizations name others by relative paths, so what a test adds lies beside a copy of them.
    copy = tmp_path_factory.mktemp("kustomize") / "manifests"
    shutil.copytree(manifests(), copy)

    @cache
    def read(name: str) -> Sequence[Object]:
        overlay, _, component = name.partition("+")
        return render(_with_component(copy, overlay, component) if component else copy / overlay)

    return read


def _with_component(folder: Path, overlay: str, component: str) -> Path:
    made = folder / "overlays" / f"{overlay}-{component}"
    made.mkdir()
    text = f"resources: [../{overlay}]\ncomponents: [../../components/{component}]\n"
    (made / "kustomization.yaml").write_text(text)
    return made
