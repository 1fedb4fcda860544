"""Room on the machine: memory, devices and processors. All pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from pilotlight.platform.control.world import ReplicaView, Room
from pilotlight.platform.values import Template
from pilotlight.runtime.spec import ReplicaState


@dataclass(frozen=True)
class Space:
    """What is free: bytes of memory, and bytes by device."""

    memory: int
    devices: Mapping[str, int]
    busy: frozenset[str] = frozenset()
    """Devices on which an engine starts just now: two that measure free memory at once would both be wrong."""

    def give_back(self, replicas: Iterable[ReplicaView]) -> Space:
        """The space once these are gone."""
        memory, devices, busy = self.memory, dict(self.devices), set(self.busy)
        for replica in replicas:
            memory += replica.memory_bytes
            for device in replica.devices:
                devices[device] = devices.get(device, 0) + replica.device_bytes
            if replica.state is ReplicaState.STARTING:
                busy -= set(replica.devices)
        return Space(memory, devices, frozenset(busy))

    def take(self, template: Template, devices: Sequence[str]) -> Space:
        left = dict(self.devices)
        for device in devices:
            left[device] -= template.device_bytes
        return Space(self.memory - template.memory_bytes, left, self.busy | set(devices))

    def settled(self) -> Space:
        """As if every start under way were over."""
        return Space(self.memory, self.devices)


def free_space(room: Room, replicas: Iterable[ReplicaView]) -> Space:
    """What the replicas leave, those that drain included: they hold their memory to the end."""
    memory, devices, busy = room.memory_bytes, dict(room.devices), set[str]()
    for replica in replicas:
        memory -= replica.memory_bytes
        for device in replica.devices:
            devices[device] = devices.get(device, 0) - replica.device_bytes
        if replica.state is ReplicaState.STARTING:
            busy |= set(replica.devices)
    return Space(memory, devices, frozenset(busy))


def place(space: Space, template: Template) -> tuple[str, ...] | None:
    """The devices for one more replica (none for a CPU one); None: it has no place."""
    if template.memory_bytes > space.memory:
        return None
    free = {uuid: bytes_ for uuid, bytes_ in space.devices.items() if uuid not in space.busy}
    return assign_devices(free, template.device_pool, template.devices, template.device_bytes)


def assign_devices(free: Mapping[str, int], pool: Sequence[str], count: int, bytes_each: int) -> tuple[str, ...] | None:
    """Choose `count` devices of the pool with room; the fullest that still fit, so that empty ones stay whole."""
    fitting = sorted((free[uuid], uuid) for uuid in pool if free.get(uuid, -1) >= bytes_each)
    return tuple(uuid for _, uuid in fitting[:count]) if len(fitting) >= count else None


def assign_cpus(total: int, taken: Sequence[tuple[int, ...]], wanted: float) -> tuple[int, ...]:
    """Choose processors: those that the fewest replicas are on, and no more than a fair share once all are taken.

    Args:
        total: Processors of the machine.
        taken: Processors of each replica there is.
        wanted: By the sizing; rounded up, at least one.
    """
    load = [sum(cpu in cpus for cpus in taken) for cpu in range(total)]
    fair = max(load.count(0), total // (len(taken) + 1), 1)
    count = min(max(1, ceil(wanted)), fair, total)
    return tuple(sorted(sorted(range(total), key=lambda cpu: (load[cpu], cpu))[:count]))


def shortage(template: Template, room: Room, replicas: Sequence[ReplicaView]) -> str:
    """Why there is no place, with the arithmetic."""
    used = sum(replica.memory_bytes for replica in replicas)
    if template.memory_bytes > room.memory_bytes - used:
        left = room.memory_bytes - used
        return (
            f"needs {_gib(template.memory_bytes)} of memory; of the budget of {_gib(room.memory_bytes)},"
            f" {len(replicas)} replicas hold {_gib(used)}, which leaves {_gib(max(0, left))}"
        )
    return f"needs {template.devices} devices with {_gib(template.device_bytes)} free on each"


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"
