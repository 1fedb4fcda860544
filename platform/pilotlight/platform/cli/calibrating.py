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
    """As asked, on the accelerators that were measured."""
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
        from pilotlight.platform.calibration.calibrate import calibrate
        from pilotlight.platform.calibration.planning import hardware_here, job_for

        try:
            if asked.folder is None:
                raise CalibrationError("the model has to lie in a folder; `pilotlight models pull` fetches one")
            hardware = hardware_here(made.accelerator, made.plan.request.accelerators, look().devices, self.catalogue)
            job = job_for(asked.folder, asked.facts, widest(asked, made), hardware, time.time(), seconds)
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


def widest(asked: Question, made: Recommendation) -> Recommendation:
    """What is measured for `made`: the same without bounds, as how far those reach is yet to be measured."""
    return recommend(asked.facts, made.accelerator, workload=asked.workload, constraints=_fixed(asked, made))


def _fixed(asked: Question, made: Recommendation) -> Constraints:
    """As asked, on the accelerators that were chosen: what is measured has to be what is recommended."""
    chosen = made.plan.request
    return replace(asked.constraints, tensor_parallel=chosen.ranks, pipeline_parallel=chosen.stages)


def _known(asked: Question, made: Recommendation, record: Record, file: RecordFile) -> Known:
    fixed = _fixed(asked, made)
    own = setup_for(asked.facts, made.accelerator, record.workload, replace(fixed, context=_context(asked, record)))
    performance = calibrated(record, setup_for(asked.facts, made.accelerator, asked.workload, fixed), own)
    return Known(performance, fixed, _note(record, file))


def _context(asked: Question, record: Record) -> int | None:
    """As asked, but with room for the requests that were measured."""
    given = asked.constraints.context
    return given and min(asked.facts.context, max(given, record.prompt + record.answer))


def _note(record: Record, file: RecordFile) -> str:
    loads = ", ".join(map(str, record.loads))
    when, where = clock_time(record.began), record.subject.hardware
    return f"latencies: measured {when} on {where}, requests in flight {loads} ({file.path})"


def _tell(line: str) -> None:
    print(f"calibration: {line}", file=sys.stderr, flush=True)
