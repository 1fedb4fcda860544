"""Probing a machine's processors."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from pilotlight.recommender.probing import cached_bytes, probe_cpu, read_bytes


def test_processors_become_an_accelerator_with_the_memory_that_is_given() -> None:
    found = probe_cpu(2**30, "host")

    assert (found.name, found.kind, found.memory_bytes, found.price) == ("host", "cpu", 2**30, None)
    assert found.probed
    assert found.bandwidth > 1e8
    assert found.arithmetic("bf16") > 1e8
    assert str(len(os.sched_getaffinity(0))) in found.source


def cpus(folder: Path) -> Path:
    """Four processors, two with each of two caches of 512 MiB."""
    for number in range(4):
        caches = {"1-d": ("Data", "32K", f"{number:x}"), "1-i": ("Instruction", "64K", f"{number:x}")}
        caches["3"] = ("Unified", f"{512 * 2**10}K", "3" if number < 2 else "c")
        for index, (level, (kind, size, shared)) in enumerate(caches.items()):
            cache = folder / f"cpu{number}/cache/index{index}"
            cache.mkdir(parents=True)
            told = {"level": level[0], "type": kind, "size": size, "shared_cpu_map": shared}
            for name, text in told.items():
                (cache / name).write_text(f"{text}\n")
    return folder


@pytest.mark.parametrize(
    ("processors", "expected"),
    [
        ((0,), 512 * 2**20 + 32 * 2**10),
        ((0, 1), 512 * 2**20 + 64 * 2**10),
        (range(4), 2**30 + 128 * 2**10),
        ((9,), 0),
    ],
)
def test_a_cache_that_processors_share_counts_once(processors: Iterable[int], expected: int, tmp_path: Path) -> None:
    assert cached_bytes(processors, cpus(tmp_path)) == expected


def test_what_the_kernel_does_not_tell_is_no_cache(tmp_path: Path) -> None:
    (cpus(tmp_path) / "cpu0/cache/index2/size").unlink()

    assert cached_bytes((0,), tmp_path) == 32 * 2**10


def test_several_times_what_is_cached_is_read_where_there_is_memory_for_it() -> None:
    assert read_bytes(2**30, 2**40) >= 3 * 2**30
    assert read_bytes(0, 2**40) == 2**28
    assert read_bytes(2**30, 2**32) <= 2**30
