"""The real engine under a few loads: what it takes, written down after each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

from pilotlight.platform.calibration import engine, injector
from pilotlight.platform.calibration.engine import EngineSetup, Tell
from pilotlight.platform.calibration.errors import CalibrationError
from pilotlight.platform.calibration.injector import ClosedLoop, Requests
from pilotlight.platform.calibration.records import FOLDER, RecordFile
from pilotlight.recommender.calibration import Measured, Record, enough, loads, next_load, share
from pilotlight.runtime.locks import FileLock

SECONDS = 180.0
"""That a calibration may take, the engine's start included."""
_APART = 1_000_000
"""Numbers between the requests of two loads."""


@dataclass(frozen=True)
class Job:
    """One calibration."""

    setup: EngineSetup
    record: Record
    """What is to be measured, with nothing measured yet."""
    most: int
    """The highest load: what the engine takes at once."""
    vocabulary: int
    seconds: float = SECONDS

    @property
    def requests(self) -> Requests:
        return Requests(engine.NAME, self.record.prompt, self.record.answer, self.vocabulary)


async def calibrate(job: Job, file: RecordFile, state: Path, tell: Tell) -> Record:
    """Measure what the file has not got of the job; each load is in the file before the next begins.

    Whatever ends it early, what is in the file can be used, and the same job goes on from there.

    Args:
        job: What to measure.
        file: Where the record is kept.
        state: Folder for what the engine needs while it runs.
        tell: Hears of the progress, one line at a time.

    Raises:
        CalibrationError: The engine failed, another calibration runs here, nothing can be written, or not one load
            could be measured.
        RecordRefused: The file holds something else.
    """
    deadline = time.monotonic() + job.seconds
    try:
        with closing(FileLock(state / FOLDER / "lock")) as lock:
            if not lock.try_acquire():
                raise CalibrationError(
                    "another calibration runs here, and each would disturb the other; wait for its end"
                )
            return await _calibrated(_Run(job, file, tell, deadline), state / FOLDER)
    except OSError as error:
        raise CalibrationError(
            f"{file.path} or {state / FOLDER} cannot be written ({error}); make room there, or name"
            " others with --store and --state"
        ) from error


@dataclass(frozen=True)
class _Run:
    job: Job
    file: RecordFile
    tell: Tell
    deadline: float

    @property
    def left(self) -> float:
        return self.deadline - time.monotonic()


async def _calibrated(run: _Run, folder: Path) -> Record:
    job = run.job
    record = _begun(job, run.file)
    if next_load(loads(job.most), record.loads) is None:
        return record
    run.file.try_writing()
    await engine.sweep(folder)
    async with engine.running(job.setup, folder, run.left, run.tell) as replica, injector.opened() as up:
        return await _measure(run, record, lambda load: ClosedLoop(up, replica, job.requests, load, load * _APART))


def _begun(job: Job, file: RecordFile) -> Record:
    found = file.read(job.record.subject)
    return found if found is not None and job.record.goes_on(found) else job.record


async def _measure(run: _Run, record: Record, loop_of: Callable[[int], ClosedLoop]) -> Record:
    wanted, missed = loads(run.job.most), set[int]()
    while (load := next_load(wanted, {*record.loads, *missed})) is not None:
        if (left := run.left) <= 0:
            break
        loop = loop_of(load)
        await loop.run(share(left, wanted, {*record.loads, *missed}), partial(enough, load))
        measured = loop.measured()
        if measured is None:
            missed.add(load)
            continue
        record = record.plus(measured)
        run.file.write(record)
        run.tell(f"{sum(one in record.loads for one in wanted)} of {len(wanted)} loads: {line(measured)}")
    if not record.measured:
        raise CalibrationError(f"no load could be measured within {run.job.seconds:.0f} s; allow more time")
    return record


def line(measured: Measured) -> str:
    """`8 in flight: 82 ms between tokens, 640 ms to the first (24 requests in 9.8 s)`."""
    gap = _mean([sample.itl for sample in measured.samples])
    first = _mean([sample.ttft for sample in measured.samples])
    took = f"{len(measured.samples)} requests in {measured.seconds:.1f} s"
    return f"{measured.load} in flight: {gap} between tokens, {first} to the first ({took})"


def _mean(seconds: Sequence[float | None]) -> str:
    known = [one for one in seconds if one is not None]
    return f"{fmean(known) * 1000:.0f} ms" if known else "unknown"
