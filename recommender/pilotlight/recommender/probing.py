"""What the processors of this machine can do, measured in a second or two: no datasheet says it of a part of one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from pilotlight.recommender.accelerators import Accelerator

_CPUS = Path("/sys/devices/system/cpu")
_LEAST_READ = 256 * 2**20
_TIMES_CACHED = 4  # of what caches hold, so that little of a reading comes from them
_SHARE = 4  # of the memory one part is read
_SIDE = 1024  # of the matrices that are multiplied
_TRIES = 5  # the best counts: others on the machine can only slow a try down


def probe_cpu(memory_bytes: int, name: str = "cpu") -> Accelerator:
    """This machine's processors as an accelerator, as if nothing else ran on them.

    Rates are work per second of processor time, so that a busy machine only has its caches and memory shared.

    Args:
        memory_bytes: What replicas may use of its memory.
        name: Under which it is told.
    """
    processors = os.sched_getaffinity(0)
    count = len(processors)
    return Accelerator(
        name=name,
        memory_bytes=memory_bytes,
        bandwidth=_read_rate(count, read_bytes(cached_bytes(processors), memory_bytes)),
        flops={"fp32": _multiply_rate(count)},
        source=f"measured on {count} processors of this machine",
        kind="cpu",
        probed=True,
    )


def read_bytes(cached: int, memory_bytes: int) -> int:
    """How much is read to measure bandwidth, where caches hold `cached` bytes: several times as much where memory has
    it, or the caches' bandwidth would be measured."""
    return min(max(_LEAST_READ, _TIMES_CACHED * cached), memory_bytes // _SHARE)


def cached_bytes(processors: Iterable[int], cpus: Path = _CPUS) -> int:
    """What all data caches of some processors hold, each that they share counted once; 0 where the kernel is silent.

    Args:
        processors: Their numbers.
        cpus: Folder in which the kernel tells of processors.
    """
    found = {}
    for number in processors:
        for cache in cpus.glob(f"cpu{number}/cache/index*"):
            level, kind, shared, size = (_read(cache / name) for name in ("level", "type", "shared_cpu_map", "size"))
            if kind in ("Data", "Unified") and size.removesuffix("K").isdecimal():
                found[level, shared] = int(size.removesuffix("K")) * 2**10
    return sum(found.values())


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def _read_rate(processors: int, size: int) -> float:
    """Bytes per second that all processors read together, from `size` bytes."""
    parts = [np.ones(max(1, size // processors // 4), np.float32) for _ in range(processors)]
    with ThreadPoolExecutor(processors) as pool:
        return sum(part.nbytes for part in parts) * processors / _least(lambda: list(pool.map(np.max, parts)))


def _multiply_rate(processors: int) -> float:
    """Multiply-adds, counted as two, per second; by as many threads as the linear algebra library takes."""
    matrix = np.ones((_SIDE, _SIDE), np.float32)
    return 2 * _SIDE**3 * processors / _least(lambda: matrix @ matrix)


def _least(work: Callable[[], object]) -> float:
    """Processor seconds of the fastest try, after one that does not count."""
    work()
    seconds = []
    for _ in range(_TRIES):
        begin = time.process_time()
        work()
        seconds.append(time.process_time() - begin)
    return min(seconds)
