"""What sizing is asked and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Device:
    """One accelerator."""

    uuid: str
    name: str  # as the driver says: "NVIDIA H100 80GB HBM3"
    memory_bytes: int


@dataclass(frozen=True)
class Machine:
    """What replicas may use here."""

    memory_bytes: int  # the budget for all replicas, not what is free just now
    cpus: int
    devices: tuple[Device, ...] = ()


@dataclass(frozen=True)
class SizingRequest:
    """What a manifest says that bears on size."""

    task: str  # "generate" | "embed"
    cpu: float | None = None  # processors; None: the recommender's choice
    memory_bytes: int | None = None  # None: the recommender's choice
    accelerator: str | None = None  # None: CPU
    count: int = 1  # accelerators
    overrides: Mapping[str, object] = field(default_factory=dict)
    """The manifest's engine options, snake_case, by vLLM's names; they win over every recommendation."""


@dataclass(frozen=True)
class Sizing:
    """How to start one replica, and what it takes."""

    options: Mapping[str, object]
    """vLLM's options in snake_case, the overrides among them."""
    environment: Mapping[str, str]
    slots: int
    """Requests in flight at once."""
    memory_bytes: int
    """Of the machine's memory; counts against its budget."""
    device_bytes: int
    """On each of its accelerators; 0 without one."""
    cpus: float
    context: int
    """Longest request, prompt and answer together, tokens."""
    reasons: tuple[str, ...]
    """One sentence per choice, with its inputs."""
    devices: tuple[str, ...] = ()
    """UUIDs of the accelerators that match; a replica takes `request.count` of them."""
