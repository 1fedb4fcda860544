"""Files of clients in a tar archive, read in passing: nothing is written to disk, whatever their names say."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from pilotlight.platform.simulate.arrivals.text import UNREADABLE
from pilotlight.platform.simulate.errors import TraceRefused

LARGEST_MEMBER = 2**28
"""Bytes, decompressed."""


def members(file: Path, suffix: str) -> Iterator[tuple[int, str, str]]:
    """Number, name and text of each `chunk-<number>-<suffix>`. Raises TraceRefused."""
    pattern = re.compile(rf"(?:.*/)?(chunk-(\d{{1,9}})-{re.escape(suffix)})")
    try:
        with tarfile.open(file, "r|*") as archive:
            for member in archive:
                named = pattern.fullmatch(member.name)
                content = archive.extractfile(member) if named and member.isfile() else None
                if not named or not content:
                    continue
                if member.size > LARGEST_MEMBER:
                    raise TraceRefused(file, f"{named[1]} is larger than {LARGEST_MEMBER:,} bytes")
                yield int(named[2]), named[1], content.read().decode()
    except (*UNREADABLE, tarfile.TarError) as error:
        raise TraceRefused(file, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
