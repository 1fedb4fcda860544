"""What the processors of this machine can do, measured in half a second: no datasheet says it of a part of one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pilotlight.recommender.accelerators import Accelerator

_READ_BYTES = 256 * 2**20  # more than a processor caches
_SIDE = 1024  # of the matrices that are multiplied
_TRIES = 3  # the best counts: others on the machine can only slow a try down


def probe_cpu(memory_bytes: int, name: str = "cpu") -> Accelerator:
    """This machine's processors as an accelerator.

    Args:
        memory_bytes: What replicas may use of its memory.
        name: Under which it is told.
    """
    threads = len(os.sched_getaffinity(0))
    return Accelerator(
        name=name,
        memory_bytes=memory_bytes,
        bandwidth=_read_rate(threads),
        flops={"fp32": _multiply_rate()},
        source=f"measured on {threads} processors of this machine",
        kind="cpu",
    )


def _read_rate(threads: int) -> float:
    """Bytes per second that all processors read together."""
    parts = [np.ones(_READ_BYTES // threads // 4, np.float32) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        return sum(part.nbytes for part in parts) / _best(lambda: list(pool.map(np.max, parts)))


def _multiply_rate() -> float:
    """Multiply-adds, counted as two, per second; by as many threads as the linear algebra library takes."""
    matrix = np.ones((_SIDE, _SIDE), np.float32)
    return 2 * _SIDE**3 / _best(lambda: matrix @ matrix)


def _best(work: Callable[[], object]) -> float:
    """Seconds of the fastest try, after one that does not count."""
    work()
    seconds = []
    for _ in range(_TRIES):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)
