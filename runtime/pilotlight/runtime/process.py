"""The engine as a process: started under its guard, read, ended with all that it started."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

from pilotlight.runtime import guard
from pilotlight.runtime.engines.protocol import Launch

GRACE_SECONDS = 5.0
"""How long an engine that was asked to stop may take before it is killed."""
_READ_BYTES = 65536
_GUARD = str(Path(guard.__file__).resolve())


class EngineProcess:
    """One engine under one guard. The caller must have become a subreaper."""

    def __init__(self, process: asyncio.subprocess.Process, sink: Callable[[bytes], None]) -> None:
        self._process = process
        self._reading = asyncio.create_task(self._read(sink))
        self.ended = asyncio.create_task(process.wait())

    @classmethod
    async def start(cls, launch: Launch, sink: Callable[[bytes], None], grace: float = GRACE_SECONDS) -> EngineProcess:
        """`sink` gets the output of the engine, both streams in one, as it comes."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", _GUARD, str(grace)),
            *launch.argv,
            stdin=asyncio.subprocess.PIPE,  # the lifeline: never written to, closed by our death
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(launch.environment),
            cwd="/",
            start_new_session=True,
        )
        return cls(process, sink)

    @property
    def pid(self) -> int:
        """The engine's first process; 0 until it runs and after its end."""
        try:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        except OSError:
            return 0
        return int(children[0]) if children else 0

    @property
    def exit_code(self) -> int | None:
        """Negative: the signal that ended it; None: it runs."""
        return self._process.returncode

    async def stop(self) -> None:
        """End it and everything below it; returns when nothing is left."""
        if self._process.returncode is None:
            self._process.terminate()
        await self.cleared()

    async def cleared(self) -> None:
        """After the end: kill what the guard could not, when it was killed itself, and read the last output."""
        await self.ended
        await asyncio.to_thread(guard.end_descendants, os.getpid())
        await self._reading

    async def _read(self, sink: Callable[[bytes], None]) -> None:
        assert self._process.stdout is not None
        while data := await self._process.stdout.read(_READ_BYTES):
            sink(data)
