"""Probing a machine's processors."""

import os

from pilotlight.recommender.probing import probe_cpu


def test_processors_become_an_accelerator_with_the_memory_that_is_given() -> None:
    found = probe_cpu(2**30, "host")

    assert (found.name, found.kind, found.memory_bytes, found.price) == ("host", "cpu", 2**30, None)
    assert found.bandwidth > 1e8
    assert found.arithmetic("bf16") > 1e8
    assert str(len(os.sched_getaffinity(0))) in found.source
