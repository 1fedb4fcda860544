"""An archive without what its receiver has is still the whole image."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.images.conftest import Image

pytestmark = pytest.mark.timeout(900)
_SCRIPT = Path(__file__).with_name("thin.py")


@pytest.mark.parametrize("left_out", [0, 3], ids=["none known", "three known"])
def test_it_has_every_blob_but_the_known_layers(on_engine: Image, left_out: int, tmp_path: Path) -> None:
    known, archive = tmp_path / "known", tmp_path / "image.tar"
    known.write_text("\n".join(on_engine.layers[:left_out]))
    tag = "pilotlight.local/replica:test"
    subprocess.run([sys.executable, str(_SCRIPT), tag, str(archive), str(known)], check=True, timeout=600)

    with tarfile.open(archive) as tar:
        blobs = {name.rpartition("/")[2]: _sha256(tar, name) for name in tar.getnames() if name.startswith("blobs/")}
        index = _json(tar, "index.json")
        manifest = _json(tar, _path(index["manifests"][0]["digest"]))
        config = _json(tar, _path(manifest["config"]["digest"]))

    assert all(name == digest for name, digest in blobs.items())
    assert index["manifests"][0]["annotations"] == {"io.containerd.image.name": tag}
    assert tuple(layer["digest"] for layer in manifest["layers"]) == on_engine.layers
    assert config["rootfs"]["diff_ids"] == list(on_engine.layers)
    layers = {layer.removeprefix("sha256:") for layer in on_engine.layers}
    assert layers - blobs.keys() == {layer.removeprefix("sha256:") for layer in on_engine.layers[:left_out]}


def _path(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _json(tar: tarfile.TarFile, name: str) -> dict[str, Any]:
    file = tar.extractfile(name)
    assert file is not None
    found: dict[str, Any] = json.loads(file.read())
    return found


def _sha256(tar: tarfile.TarFile, name: str) -> str:
    file = tar.extractfile(name)
    assert file is not None
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
