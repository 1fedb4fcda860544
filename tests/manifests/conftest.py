"""The manifests, rendered as they are applied."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import cache
from hashlib import sha256

import pytest

from pilotlight.platform.install.rendering import manifests, render
from pilotlight.platform.kubernetes.kinds import Object

Rendered = Callable[[str], Sequence[Object]]


@pytest.fixture(scope="session")
def overlaid(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """An overlay of one's own, from the text of its kustomization."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not on the PATH")
    # Kustomizations name others by relative paths, so what a test adds lies beside a copy of them.
    overlays = tmp_path_factory.mktemp("kustomize") / "manifests" / "overlays"
    shutil.copytree(manifests(), overlays.parent)

    @cache
    def read(text: str) -> Sequence[Object]:
        made = overlays / sha256(text.encode()).hexdigest()[:12]
        made.mkdir()
        (made / "kustomization.yaml").write_text(text)
        return render(made)

    return read


@pytest.fixture(scope="session")
def rendered(overlaid: Rendered) -> Rendered:
    """By path below `manifests/`; `dev+observability` is the overlay with the component."""

    def read(name: str) -> Sequence[Object]:
        overlay, _, component = name.partition("+")
        with_component = f"resources: [../{overlay}]\ncomponents: [../../components/{component}]\n"
        return overlaid(with_component if component else f"resources: [../../{overlay}]\n")

    return read
