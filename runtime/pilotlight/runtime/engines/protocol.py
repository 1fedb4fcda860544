"""What the supervisor needs to know of a kind of engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pilotlight.runtime.spec import Phase, ReplicaSpec
from pilotlight.runtime.wire import Request

PORT_TAKEN = "the engine's port was taken by another process"
"""The cause that a start is tried once more for, with another port."""


class BadEngineSpecError(ValueError):
    """The spec asks for what this engine must not be started with."""


@dataclass(frozen=True)
class Launch:
    """A process to start; the first argument is an absolute path, the environment is complete."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Signal:
    """What one line of the log says of the start: a phase that begins, or progress within the current one."""

    phase: Phase | None = None
    progress: float | None = None  # 0..1


LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Place:
    """Where the engine finds things, the base model and its adapters by name, and where it is found."""

    model: Path | None
    adapters: Mapping[str, Path]
    port: int
    host: str = LOOPBACK
    """The IPv4 address to listen on."""


@dataclass(frozen=True)
class Listen:
    """Where engines are to listen; port 0: any that is free."""

    host: str = LOOPBACK
    port: int = 0


class Engine(Protocol):
    """One implementation per kind; pure but for `launch`, which may look at the files of the place."""

    @property
    def needs_model(self) -> bool:
        """Whether the model is fetched before the start."""

    @property
    def load_route(self) -> tuple[str, str]:
        """Target of a GET, and the field of its JSON that tells how many requests the engine has in hand."""

    def launch(self, spec: ReplicaSpec, place: Place, inherited: Mapping[str, str]) -> Launch:
        """The command for the spec; `inherited` is the supervisor's environment. Raises BadEngineSpecError."""

    def read(self, line: str) -> Signal | None:
        """What a line of the log says; None for all lines that are not known."""

    def cause(self, lines: Sequence[str], exit_code: int | None) -> str:
        """Why a start failed, one sentence; exit code None: it still runs, negative: the signal that ended it."""

    def warmups(self, spec: ReplicaSpec) -> Sequence[Request]:
        """Requests that make the first caller's request as fast as the next ones."""
