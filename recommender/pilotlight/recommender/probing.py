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
_TRIES = 5  # the best counts: others on the machine can only slow a try down


def probe_cpu(memory_bytes: int, name: str = "cpu") -> Accelerator:
    """This machine's processors as an accelerator, as if nothing else ran on them.

    Rates are work per second of processor time, so that a busy machine only has its caches and memory shared.

    Args:
        memory_bytes: What replicas may use of its memory.
        name: Under which it is told.
    """
    count = len(os.sched_getaffinity(0))
    return Accelerator(
        name=name,
        memory_bytes=memory_bytes,
        bandwidth=_read_rate(count),
        flops={"fp32": _multiply_rate(count)},
        source=f"measured on {count} processors of this machine",
        kind="cpu",
    )


def _read_rate(processors: int) -> float:
    """Bytes per second that all processors read together."""
    parts = [np.ones(_READ_BYTES // processors // 4, np.float32) for _ in range(processors)]
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
