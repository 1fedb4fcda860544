"""A folder, looked through before anything of it is uploaded or run."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pilotlight.platform.registry.errors import ModelRefusedError
from pilotlight.platform.registry.judgement import Judged, judge
from pilotlight.runtime.models import FILE_LIMIT, BadManifestError, check_path


@dataclass(frozen=True)
class SourceFile:
    """A file to push: where it will be in the model, and where it is now."""

    path: str
    source: Path
    size: int  # bytes
    modified_ns: int

    def open(self) -> BinaryIO:
        return self.source.open("rb")


@dataclass(frozen=True)
class Inspected:
    """A folder that may be pushed."""

    files: tuple[SourceFile, ...]
    judged: Judged


def inspect_folder(folder: Path, *, trust_remote_code: bool = False) -> Inspected:
    """Raises ModelRefusedError with everything that is wrong. Names beginning with a dot are left out."""
    problems: list[str] = []
    files = dict(sorted(_listed(folder, problems)))
    judged = judge(str(folder), files, problems, trust_remote_code=trust_remote_code)
    return Inspected(tuple(files.values()), judged)


def _listed(folder: Path, problems: list[str]) -> Iterator[tuple[str, SourceFile]]:
    if folder.is_symlink() or not folder.is_dir():
        raise ModelRefusedError(str(folder), ["not a folder"])
    for count, source in enumerate(walk(folder), 1):
        path = source.relative_to(folder).as_posix()
        if count > FILE_LIMIT:
            raise ModelRefusedError(str(folder), [f"more than {FILE_LIMIT} files"])
        status = source.lstat()
        if stat.S_ISLNK(status.st_mode):
            problems.append(f"{path}: a symbolic link; put the file itself there")
        elif not stat.S_ISREG(status.st_mode):
            problems.append(f"{path}: not a regular file")
        elif not os.access(source, os.R_OK):
            problems.append(f"{path}: cannot be read by this user")
        elif well_named(path, problems):
            yield path, SourceFile(path, source, status.st_size, status.st_mtime_ns)


def walk(folder: Path) -> Iterator[Path]:
    """Everything below that is not a folder, without following links; names beginning with a dot are left out."""
    for source in sorted(folder.iterdir()):
        if source.name.startswith("."):
            continue
        if source.is_dir() and not source.is_symlink():
            yield from walk(source)
        else:
            yield source


def well_named(path: str, problems: list[str]) -> bool:
    """Whether the path may stand in a manifest; if not, the problem is noted."""
    try:
        check_path(path)
    except BadManifestError as error:
        problems.append(str(error))
        return False
    return True
