"""A model's folder as a store: linked, not copied; refused where a push would be."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pilotlight.platform.calibration.errors import CalibrationError
from pilotlight.platform.calibration.store import place
from pilotlight.platform.registry.push import Progress
from pilotlight.runtime.cache import read_manifest
from pilotlight.runtime.models import blob_key
from pilotlight.runtime.stores.folder import FolderStore


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    save_file({"a": np.zeros(4, np.float32)}, folder / "model.safetensors")
    return folder


def test_the_runtime_finds_every_file_and_no_byte_was_copied(model: Path, tmp_path: Path) -> None:
    root = tmp_path / "store"
    manifest = place(model, root, lambda _: None)

    assert read_manifest(FolderStore(root), manifest.digest) == manifest
    assert [file.path for file in manifest.files] == ["config.json", "model.safetensors"]
    assert all((root / blob_key(file.digest)).samefile(model / file.path) for file in manifest.files)


def test_where_links_cannot_be_files_are_copied_and_each_piece_may_be_the_last(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    def stop(progress: Progress) -> None:
        if progress.stage == "copy":
            raise CalibrationError("stopped")

    monkeypatch.setattr(os, "link", refused)
    manifest = place(model, tmp_path / "store", lambda _: None)

    for file in manifest.files:
        assert (tmp_path / "store" / blob_key(file.digest)).read_bytes() == (model / file.path).read_bytes()
    with pytest.raises(CalibrationError, match="stopped"):
        place(model, tmp_path / "another", stop)


def test_what_no_registry_takes_is_refused_with_the_problems(model: Path, tmp_path: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(b"\x80\x04.")

    with pytest.raises(CalibrationError) as refused:
        place(model, tmp_path / "store", lambda _: None)
    assert any("pytorch_model.bin" in line for line in refused.value.lines)
