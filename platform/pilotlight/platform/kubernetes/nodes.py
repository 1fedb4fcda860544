"""What the nodes of a cluster have for replicas. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pilotlight.platform.kubernetes.api import quantity
from pilotlight.platform.kubernetes.kinds import Object, labels_of
from pilotlight.recommender import Device, Machine

GPU = "nvidia.com/gpu"
GPU_PRODUCT = "nvidia.com/gpu.product"
GPU_MEMORY = "nvidia.com/gpu.memory"
"""Labels of NVIDIA's feature discovery; the memory is in MiB."""


def machine_of(nodes: Iterable[Object]) -> Machine:
    """The largest node that takes pods, with the devices of all nodes: a replica is on one node, whichever fits."""
    usable = [node for node in nodes if not node["spec"].get("unschedulable")]
    allocatable = [node["status"].get("allocatable", {}) for node in usable]
    return Machine(
        memory_bytes=max((int(quantity(each.get("memory", "0"))) for each in allocatable), default=0),
        cpus=max((int(quantity(each.get("cpu", "0"))) for each in allocatable), default=0),
        devices=tuple(device for node in usable for device in _devices(node)),
    )


def _devices(node: Object) -> Iterator[Device]:
    labels: Mapping[str, str] = labels_of(node)
    count = int(quantity(node["status"].get("allocatable", {}).get(GPU, "0")))
    for number in range(count):
        name = f"{node['metadata']['name']}/{number}"
        yield Device(name, labels.get(GPU_PRODUCT, ""), int(labels.get(GPU_MEMORY, "0")) * 2**20)
