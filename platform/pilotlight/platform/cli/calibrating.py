"""`pilotlight recommend --calibrate`, and what earlier calibrations know."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from pilotlight.platform.calibration.errors import CalibrationError
from pilotlight.platform.calibration.records import FOLDER, RecordFile
from pilotlight.platform.calibration.subjects import subject_of
from pilotlight.platform.cli.errors import INTERRUPTED, CommandError
from pilotlight.platform.cli.output import clock_time
from pilotlight.platform.embedded.machine import look
from pilotlight.recommender import (
    Accelerator,
    Catalogue,
    Constraints,
    DoesNotFit,
    ModelFacts,
    OptionRefused,
    Performance,
    Recommendation,
    Slo,
    SloUnreachable,
    Workload,
    builtin,
    recommend,
)
from pilotlight.recommender.calibration import Record, calibrated
from pilotlight.recommender.placing import setup_for


@dataclass(frozen=True)
class Question:
    """What a recommendation is asked for."""

    facts: ModelFacts
    fingerprint: str
    """Of the model's shape."""
    folder: Path | None
    """With its weights; None: they are not here."""
    slo: Slo
    workload: Workload
    constraints: Constraints


@dataclass(frozen=True)
class Known:
    """What was measured, ready for `recommend`."""

    performance: Performance
    constraints: Constraints
    """As asked, with the number of accelerators that was measured."""
    note: str
    """For whoever reads the recommendation."""


@dataclass(frozen=True)
class Calibrations:
    """What was, or is to be, measured of models."""

    state: Path
    store: Path | None = None
    """A file in place of those in the state folder."""
    seconds: float | None = None
    """That a calibration may take; None: only earlier ones count."""
    catalogue: Catalogue = field(default_factory=builtin)

    def known(self, asked: Question, accelerator: Accelerator) -> Known | None:
        """None: nothing was measured of this model and hardware, or it cannot be run on it.

        Raises CommandError, and RecordRefused for a file of something else.
        """
        if self.seconds is None and self.store is None and not (self.state / FOLDER).is_dir():
            return None
        try:
            made = _expected(asked, accelerator)
        except (DoesNotFit, OptionRefused):
            return None
        subject = subject_of(asked.fingerprint, made)
        file = RecordFile.of(subject, self.state) if self.store is None else RecordFile(self.store)
        record = file.read(subject) if self.seconds is None else self._measured(asked, made, file, self.seconds)
        return None if record is None else _known(asked, made, record, file)

    def _measured(self, asked: Question, made: Recommendation, file: RecordFile, seconds: float) -> Record:
        """Up to the load that would be recommended without bounds: how far those reach is yet to be measured."""
        from pilotlight.platform.calibration.calibrate import calibrate
        from pilotlight.platform.calibration.planning import hardware_here, job_for

        try:
            if asked.folder is None:
                raise CalibrationError("the model has to lie in a folder; `pilotlight models pull` fetches one")
            fixed = _fixed(asked, made)
            hardware = hardware_here(made.accelerator, fixed.tensor_parallel or 1, look().devices, self.catalogue)
            widest = recommend(asked.facts, made.accelerator, None, workload=asked.workload, constraints=fixed)
            job = job_for(asked.folder, asked.facts, widest, hardware, time.time(), seconds)
            return asyncio.run(calibrate(job, file, self.state, _tell))
        except CalibrationError as error:
            raise CommandError(f"cannot calibrate: {error}", details=error.lines) from error
        except KeyboardInterrupt:
            kept = "what was measured is kept, and the same command goes on from there"
            raise CommandError(f"interrupted; {kept}", code=INTERRUPTED) from None


def _expected(asked: Question, accelerator: Accelerator) -> Recommendation:
    """Before anything was measured: which engine it would be. A bound that seems out of reach may not be."""
    try:
        return recommend(asked.facts, accelerator, None, asked.slo, asked.workload, asked.constraints)
    except SloUnreachable:
        return recommend(asked.facts, accelerator, None, workload=asked.workload, constraints=asked.constraints)


def _fixed(asked: Question, made: Recommendation) -> Constraints:
    """As asked, on as many accelerators as were chosen."""
    ranks = int(made.number("tensor_parallel_size"))
    return replace(asked.constraints, tensor_parallel=ranks) if ranks > 1 else asked.constraints


def _known(asked: Question, made: Recommendation, record: Record, file: RecordFile) -> Known:
    fixed = _fixed(asked, made)
    performance = calibrated(record, setup_for(asked.facts, made.accelerator, asked.workload, fixed))
    return Known(performance, fixed, _note(record, file))


def _note(record: Record, file: RecordFile) -> str:
    loads = ", ".join(map(str, record.loads))
    when, where = clock_time(record.began), record.subject.hardware
    return f"latencies: measured {when} on {where}, requests in flight {loads} ({file.path})"


def _tell(line: str) -> None:
    print(f"calibration: {line}", file=sys.stderr, flush=True)
