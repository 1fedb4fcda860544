"""What this machine has for replicas."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import psutil

from pilotlight.platform.settings import MEMORY_SHARE
from pilotlight.recommender import Device, Machine

_QUERY = ("nvidia-smi", "--query-gpu=uuid,name,memory.total", "--format=csv,noheader,nounits")
_SECONDS = 20.0
_CGROUP = Path("/sys/fs/cgroup/memory.max")


def look(memory_bytes: int | None = None) -> Machine:
    """This machine; `memory_bytes` None: 80 % of its memory, or of the container's."""
    memory = memory_bytes if memory_bytes is not None else int(MEMORY_SHARE * total_memory())
    return Machine(memory, len(os.sched_getaffinity(0)), devices())


def total_memory() -> int:
    """Of the machine, or of the control group that bounds this process; bytes."""
    total = int(psutil.virtual_memory().total)
    try:
        return min(total, int(_CGROUP.read_text()))
    except (OSError, ValueError):  # no control group, or "max"
        return total


def devices() -> tuple[Device, ...]:
    """The NVIDIA devices, as their driver tells; none where it is missing."""
    if shutil.which(_QUERY[0]) is None:
        return ()
    try:
        done = subprocess.run(_QUERY, capture_output=True, text=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse_devices(done.stdout)


def parse_devices(text: str) -> tuple[Device, ...]:
    """Lines of `GPU-uuid, name, MiB`; other lines are passed over."""
    found = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 3 and parts[0].startswith("GPU-") and parts[2].isdecimal():
            found.append(Device(parts[0], parts[1], int(parts[2]) * 2**20))
    return tuple(found)
