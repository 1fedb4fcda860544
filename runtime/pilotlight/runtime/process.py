"""The engine as a process: started under its guard, read, ended with all that it started."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from pilotlight.runtime import guard
from pilotlight.runtime.engines.protocol import Launch
from pilotlight.runtime.leftovers import Marks

GRACE_SECONDS = 5.0
"""How long an engine that was asked to stop may take before it is killed."""
_READ_BYTES = 65536
_GUARD = str(Path(guard.__file__).resolve())


class EngineProcess:
    """One engine under one guard, in a running event loop. The caller must have become a subreaper.

    Not asyncio's subprocess: its `wait` does not return while a descendant that outlives a killed guard holds the
    output open, and just then the rest must be ended.
    """

    def __init__(self, process: subprocess.Popen[bytes], sink: Callable[[bytes], None], others: frozenset[int]) -> None:
        """`others`: processes below the caller that are not the engine's."""
        assert process.stdout is not None
        self._others = others
        self._process, self._sink = process, sink
        self._loop = asyncio.get_running_loop()
        self._output = process.stdout.fileno()
        self._exit = os.pidfd_open(process.pid)
        self.ended: asyncio.Future[None] = self._loop.create_future()
        """Done at the guard's end, which is the engine's unless the guard was killed. Do not cancel it."""
        os.set_blocking(self._output, False)
        self._loop.add_reader(self._output, self._read)
        self._loop.add_reader(self._exit, self._exited)

    @classmethod
    def start(cls, launch: Launch, sink: Callable[[bytes], None], grace: float = GRACE_SECONDS) -> EngineProcess:
        """`sink` gets the output of the engine, both streams in one, as it comes."""
        others = frozenset(guard.descendants(os.getpid()))
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", _GUARD, str(grace), *launch.argv],
            stdin=subprocess.PIPE,  # the lifeline: never written to, closed by our death
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(launch.environment),
            cwd="/",
            start_new_session=True,
        )
        return cls(process, sink, others)

    @property
    def pid(self) -> int:
        """The engine's first process; 0 until it runs and after its end."""
        try:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        except OSError:
            return 0
        return int(children[0]) if children else 0

    @property
    def marks(self) -> Marks:
        """Of the guard and of all that it starts; to be asked while the output is open."""
        return Marks(self._process.pid, str(Path(f"/proc/self/fd/{self._output}").readlink()))

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
        await asyncio.shield(self.ended)
        await asyncio.to_thread(guard.end_descendants, os.getpid(), self._others)
        while self._output >= 0:
            self._read()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _exited(self) -> None:
        self._loop.remove_reader(self._exit)
        os.close(self._exit)
        self._process.wait()
        self.ended.set_result(None)

    def _read(self) -> None:
        try:
            data = os.read(self._output, _READ_BYTES)
        except BlockingIOError:
            return
        if data:
            self._sink(data)
            return
        self._loop.remove_reader(self._output)
        self._output = -1
        assert self._process.stdout is not None
        self._process.stdout.close()
