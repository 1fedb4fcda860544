"""What tests of the runtime share: models in a folder store, and specs that use them."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import pytest

from pilotlight.runtime.guard import descendants
from pilotlight.runtime.models import ModelFile, ModelManifest, blob_key
from pilotlight.runtime.stores.folder import FolderStore


class Registry:
    """A folder store that models are put into without a push."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = FolderStore(folder)

    def put(self, files: Mapping[str, bytes | Path], kind: Literal["model", "adapter"] = "model") -> ModelManifest:
        rows = []
        for path, content in sorted(files.items()):
            data = content if isinstance(content, bytes) else content.read_bytes()
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            target = self.blob(digest)
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                target.write_bytes(data)
            else:
                shutil.copyfile(content, target)
            rows.append(ModelFile(path, len(data), digest))
        manifest = ModelManifest(kind, tuple(rows))
        self.blob(manifest.digest).write_bytes(manifest.to_json())
        return manifest

    def blob(self, digest: str) -> Path:
        return self.folder / blob_key(digest)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest.fixture
def processes() -> Callable[[], set[int]]:
    """Processes below this one that were not there before the test."""
    before = descendants(os.getpid())

    def left() -> set[int]:
        return descendants(os.getpid()) - before

    return left
