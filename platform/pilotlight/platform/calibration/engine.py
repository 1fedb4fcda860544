"""An engine of our own, as one replica under the runtime's supervisor, for as long as it is measured."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pilotlight.activator.values import Replica
from pilotlight.platform.calibration.errors import CalibrationError
from pilotlight.platform.calibration.store import place
from pilotlight.platform.embedded.cluster import processors
from pilotlight.platform.registry.push import Progress, Report
from pilotlight.runtime import client
from pilotlight.runtime.spec import EngineSpec, ReplicaSpec, ReplicaState, ReplicaStatus

NAME = "calibrated"
"""The engine serves the model under it."""
_POLL_SECONDS = 0.1
_HEARTBEAT_SECONDS = 2.0
_ORPHAN_SECONDS = 15.0
"""After a kill -9 of ours the supervisor ends the engine."""
_PREFIX, _REPLICA = ".engine-", "replica"
_WORDS_SECONDS = 3.0
"""That a supervisor may take to see that its engine has died."""
_END_SECONDS = 30.0
"""A supervisor that does as it should ends its engine in half of it."""
_ENDED = (ReplicaState.FAILED, ReplicaState.STOPPED)

Tell = Callable[[str], None]


@dataclass(frozen=True)
class EngineSetup:
    """What is started."""

    model: Path
    """A folder with its weights."""
    options: Mapping[str, object]
    """vLLM's, in snake_case."""
    kind: str = "vllm"
    cpus: int = 1
    devices: tuple[str, ...] = ()
    """UUIDs of the accelerators; none: on processors."""
    end_seconds: float = _END_SECONDS
    """That its end may take before it is killed."""


@asynccontextmanager
async def running(setup: EngineSetup, folder: Path, seconds: float, tell: Tell) -> AsyncIterator[Replica]:
    """The ready engine; it is ended, and all that it needed removed, at the end of the block.

    Args:
        setup: What to start.
        folder: In which a temporary one is made.
        seconds: That its preparation and start may take together.
        tell: Hears of each phase of the start.

    Raises:
        CalibrationError: The engine did not become ready, or died under what the block did with it.
    """
    with _scratch(folder) as scratch:
        replica, pid = scratch / _REPLICA, 0
        try:
            async with _within(seconds):
                spec = await _prepared(setup, scratch, time.monotonic() + seconds)
                pid = client.launch(replica, spec)  # not in a thread: a cancellation there would lose its id
                status = await _ready(replica, pid, tell)
            async with _heartbeat(replica), _explained(replica):
                yield Replica(NAME, NAME, status.endpoint, spec.engine.key, slots=1)
        finally:
            await _end(replica, pid, setup.end_seconds)


async def sweep(folder: Path) -> None:
    """End and remove what a killed process left in the folder; nobody else may be using it. Raises CalibrationError."""
    for scratch in await asyncio.to_thread(lambda: list(folder.glob(f"{_PREFIX}*"))):
        await _end(scratch / _REPLICA, 0, _END_SECONDS)
        await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=folder, ignore_cleanup_errors=True) as scratch:
        yield Path(scratch)


@asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise CalibrationError(f"the engine's start took longer than {seconds:.0f} s; allow more time") from None


async def _prepared(setup: EngineSetup, scratch: Path, deadline: float) -> ReplicaSpec:
    """In a thread that leaves off when it is not waited for any more: weights are hashed."""
    stopped = threading.Event()

    def watch(_: Progress) -> None:
        if stopped.is_set():
            raise CalibrationError("stopped")

    try:
        return await asyncio.to_thread(_spec, setup, scratch, deadline, watch)
    finally:
        stopped.set()


def _spec(setup: EngineSetup, folder: Path, deadline: float, watch: Report) -> ReplicaSpec:
    store = folder / "store"
    digest = place(setup.model, store, watch).digest if setup.kind == "vllm" else ""
    cpus = processors(range(setup.cpus), os.sched_getaffinity(0))
    return ReplicaSpec(
        replica=NAME,
        function=f"pilotlight/{NAME}",
        revision=NAME,
        task="generate",
        store=store.as_uri(),
        model=digest,
        served_names=(NAME,),
        engine=EngineSpec(setup.kind, setup.options, key=secrets.token_urlsafe(32)),
        cpus=cpus,
        threads=max(1, len(cpus)),
        devices=setup.devices,
        cache_folder=str(folder / "cache"),
        cache_bytes=2**60,
        created_at=time.time(),
        start_seconds=max(0.0, deadline - time.monotonic()),
        drain_seconds=0.0,
        orphan_seconds=_ORPHAN_SECONDS,
    )


async def _ready(folder: Path, pid: int, tell: Tell) -> ReplicaStatus:
    phase = ""
    while True:
        status = await client.status(folder)
        if status is None and not client.alive(folder, pid):
            raise CalibrationError("the engine's supervisor ended before it said anything")
        if status is not None and status.state in _ENDED:
            raise CalibrationError(f"the engine did not start: {status.message}", status.log_tail)
        if status is not None and status.phases and status.phases[-1].name != phase:
            phase = status.phases[-1].name
            tell(f"engine: {phase}")
        if status is not None and status.state is ReplicaState.READY:
            return status
        await asyncio.sleep(_POLL_SECONDS)


@asynccontextmanager
async def _heartbeat(folder: Path) -> AsyncIterator[None]:
    """Ask for its status now and then, or the supervisor takes itself for an orphan."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT_SECONDS)
            await client.status(folder)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _end(folder: Path, pid: int, seconds: float) -> None:
    """Stop it and wait for its end: what comes next may need its memory. One that does not obey is killed."""
    if not await _gone(folder, pid, seconds) and pid:
        os.kill(pid, signal.SIGKILL)  # a child of ours that was not waited for; its guard ends the engine
    if not await _gone(folder, pid, _END_SECONDS):
        raise CalibrationError(f"an earlier engine does not end; end the process that has {folder} open")
    client.clear(folder)


async def _gone(folder: Path, pid: int, seconds: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while client.alive(folder, pid):
                await client.stop(folder)
                await asyncio.sleep(_POLL_SECONDS)
    return not client.alive(folder, pid)


@asynccontextmanager
async def _explained(folder: Path) -> AsyncIterator[None]:
    """An error in the block says why the engine has died, where it has."""
    try:
        yield
    except CalibrationError as error:
        status = await _last_words(folder)
        if status is None:
            raise
        raise CalibrationError(f"{error}: {status.message}", status.log_tail) from error


async def _last_words(folder: Path) -> ReplicaStatus | None:
    """None: it lives."""
    deadline = time.monotonic() + _WORDS_SECONDS
    while time.monotonic() < deadline:
        status = await client.status(folder)
        if status is not None and status.state in _ENDED:
            return status
        await asyncio.sleep(_POLL_SECONDS)
    return None
