"""What a replica says of itself: kept in memory for those who ask, and in `status.json` for those who come later."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from pilotlight.runtime.codec import dump
from pilotlight.runtime.phases import PhaseLog
from pilotlight.runtime.spec import EngineCounters, Phase, ReplicaSpec, ReplicaState, ReplicaStatus

STATUS_FILE = "status.json"


class Board:
    """Every change of state or phase is on disk before the caller goes on; progress alone is not written."""

    def __init__(self, folder: Path, spec: ReplicaSpec, clock: Callable[[], float] = time.time) -> None:
        self._folder, self._spec = folder, spec
        self.phases = PhaseLog(clock, spec.created_at)
        self.state = ReplicaState.STARTING
        self.endpoint, self.message = "", ""
        self.engine_pid = 0
        self.running: int | None = None
        self.counters: EngineCounters | None = None
        self.log_tail: tuple[str, ...] = ()

    def status(self) -> ReplicaStatus:
        return ReplicaStatus(
            replica=self._spec.replica,
            revision=self._spec.revision,
            state=self.state,
            phases=self.phases.reports,
            endpoint=self.endpoint,
            supervisor_pid=os.getpid(),
            engine_pid=self.engine_pid,
            running=self.running,
            counters=self.counters,
            message=self.message,
            log_tail=self.log_tail,
        )

    def enter(self, phase: Phase, detail: str = "") -> None:
        if self.phases.begin(phase, detail):
            self.write()

    def become(self, state: ReplicaState, message: str = "") -> None:
        """Change the state; the first message of a failure stays."""
        self.state = state
        self.message = message or self.message
        if state in (ReplicaState.FAILED, ReplicaState.STOPPED):
            self.phases.close()
            self.running, self.endpoint, self.engine_pid = None, "", 0
        self.write()

    def write(self) -> None:
        write_atomically(self._folder / STATUS_FILE, dump(self.status()))


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file by one with mode 0600; readers see the old one or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    temporary.replace(path)
