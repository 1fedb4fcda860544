"""A model's folder as a store that the runtime fetches from, without a second copy where that can be."""

from __future__ import annotations

import os
from pathlib import Path

from pilotlight.platform.calibration.errors import CalibrationError
from pilotlight.platform.registry.errors import ModelRefusedError
from pilotlight.platform.registry.hub import inspect_hub_folder
from pilotlight.platform.registry.push import PART_BYTES, Counter, Report, hash_files, manifest_of
from pilotlight.runtime.models import ModelManifest, blob_key


def place(model: Path, store: Path, report: Report) -> ModelManifest:
    """Link the files of a folder into a store, under their digests.

    Raises CalibrationError, and what `report` raises.
    """
    try:
        found = inspect_hub_folder(model)
        files = hash_files(found, report)
    except ModelRefusedError as error:
        sentence = str(error).partition("\n")[0].rstrip(":")
        raise CalibrationError(sentence, tuple(error.problems)) from error
    copied = Counter("copy", sum(file.source.size for file in files), report)
    for file in files:
        target = store / blob_key(file.digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            _link(file.source.source.resolve(), target, copied)
    manifest = manifest_of(found, files)
    (store / blob_key(manifest.digest)).write_bytes(manifest.to_json())
    return manifest


def _link(source: Path, target: Path, copied: Counter) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, another owner, or no links
        with source.open("rb") as file, target.open("xb") as copy:
            while piece := file.read(PART_BYTES):
                copy.write(piece)
                copied.add(len(piece), source.name)
