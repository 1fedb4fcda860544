"""What the nodes of a cluster have for replicas."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from pilotlight.platform.kubernetes.api import quantity
from pilotlight.platform.kubernetes.nodes import machine_of


def node(name: str, memory: str, cpu: str, gpus: int = 0, cordoned: bool = False) -> dict[str, Any]:
    labels = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.memory": "81559"} if gpus else {}
    allocatable = {"memory": memory, "cpu": cpu, "nvidia.com/gpu": str(gpus)}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"unschedulable": True} if cordoned else {},
        "status": {"allocatable": allocatable},
    }


def test_a_replica_may_have_the_largest_node_and_the_devices_of_any() -> None:
    machine = machine_of(
        [node("a", "16Gi", "7500m"), node("b", "8Gi", "16", gpus=2), node("c", "1Ti", "99", cordoned=True)]
    )

    assert (machine.memory_bytes, machine.cpus) == (16 * 2**30, 16)
    assert [device.name for device in machine.devices] == ["NVIDIA-H100-80GB-HBM3"] * 2
    assert machine.devices[0].memory_bytes == 81559 * 2**20


def test_a_cluster_without_nodes_has_nothing() -> None:
    assert machine_of([]).memory_bytes == 0


@pytest.mark.parametrize(("text", "number"), [("400m", "0.4"), ("16Gi", str(16 * 2**30)), ("2", "2"), ("1e3", "1000")])
def test_quantities_are_numbers(text: str, number: str) -> None:
    assert quantity(text) == Decimal(number)
