"""Room under a container's memory limit that only the page cache takes.

A container's usage counts every file page that it was the first to read. The kernel gives those back as soon as
something else needs memory, but whoever subtracts usage from the limit beforehand finds nothing left. Control groups of
both versions (Linux, `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/memory.rst`); elsewhere nothing is done.
"""

from __future__ import annotations

import mmap
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path("/sys/fs/cgroup")
"""Where a container sees its own group."""
SLACK_BYTES = 64 * 2**20
"""Left to other threads while the memory is taken, and beyond what was asked for afterwards."""


@dataclass(frozen=True)
class MemoryGroup:
    """A group with a limit; bytes."""

    limit: int
    used: int
    cache: int
    """Of what is used: file pages that no process has mapped and that are on the disk already."""

    @property
    def left(self) -> int:
        return self.limit - self.used

    def to_press(self, wanted: int) -> int:
        """How much to take for a moment so that `wanted` is left afterwards.

        Zero: enough is left, or the page cache cannot make it enough with some room for others: a group that is driven
        to its limit is ended by the kernel.
        """
        room = wanted + SLACK_BYTES
        return room if self.left < wanted and room + SLACK_BYTES <= self.left + self.cache else 0


def read_group(root: Path = ROOT) -> MemoryGroup | None:
    """None: no limit, or none that can be read."""
    return next((group for files in (_V2, _V1) if (group := _read(root, files)) is not None), None)


class _Files(NamedTuple):
    """What a version calls its figures."""

    limit: str
    used: str
    stat: str
    cached: tuple[str, str]
    """Fields of file pages."""
    others: tuple[str, ...]
    """... that cannot be dropped just now."""


_V2 = _Files(
    "memory.max",
    "memory.current",
    "memory.stat",
    ("inactive_file", "active_file"),
    ("file_mapped", "file_dirty", "file_writeback"),
)
_V1 = _Files(
    "memory/memory.limit_in_bytes",
    "memory/memory.usage_in_bytes",
    "memory/memory.stat",
    ("total_inactive_file", "total_active_file"),
    ("total_mapped_file", "total_dirty", "total_writeback"),
)


def _read(root: Path, files: _Files) -> MemoryGroup | None:
    try:
        limit, used = ((root / name).read_text().strip() for name in (files.limit, files.used))
        stat = dict(line.split() for line in (root / files.stat).read_text().splitlines())
        cache = sum(int(stat[field]) for field in files.cached) - sum(int(stat[field]) for field in files.others)
        return None if limit == "max" else MemoryGroup(int(limit), int(used), max(0, cache))
    except (OSError, ValueError, KeyError):
        return None


def make_room(wanted: int, root: Path = ROOT) -> None:
    """Have the kernel drop page cache until `wanted` bytes are left under the limit, where that is possible.

    Memory that is taken and given back is the one way that a container without privileges has to ask for it.
    """
    group = read_group(root)
    if group is not None and (size := group.to_press(wanted)):
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
        with suppress(OSError):  # a stricter bound than the group's: the engine says what it lacks
            mmap.mmap(-1, size, flags=flags).close()
