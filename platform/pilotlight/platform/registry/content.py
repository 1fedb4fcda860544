"""Files of a model, wherever they lie, and whether one of them is a pickle."""

from __future__ import annotations

import zipfile
from pathlib import PurePosixPath
from typing import BinaryIO, Protocol

PICKLES = frozenset({".bin", ".ckpt", ".dill", ".joblib", ".pickle", ".pkl", ".pt", ".pth"})
"""Endings under which weights are pickled: loading them runs whatever code they hold."""


class Content(Protocol):
    """A file that is judged: on disk before a push, in the store before the platform lets a push be seen."""

    @property
    def path(self) -> str:
        """Its place in the model."""

    @property
    def size(self) -> int: ...

    def open(self) -> BinaryIO: ...


def is_pickle(file: Content) -> bool:
    """By its ending, or by what it begins with."""
    if PurePosixPath(file.path).suffix.lower() in PICKLES:
        return True
    if file.path.endswith((".safetensors", ".json", ".txt", ".md")):
        return False
    with file.open() as data:
        first = data.read(4)
    if first == b"PK\x03\x04":
        return _zips_pickle(file)
    return first[:1] == b"\x80" and first[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")


def _zips_pickle(file: Content) -> bool:
    try:
        with file.open() as data, zipfile.ZipFile(data) as archive:
            return any(name.endswith(".pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return True  # it says that it is an archive and cannot be looked into
