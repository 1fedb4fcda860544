"""What a recommendation would be measured as, on this machine or another."""

from __future__ import annotations

import os
from pathlib import Path

from pilotlight.recommender.accelerators import Accelerator
from pilotlight.recommender.calibration import Subject
from pilotlight.recommender.recommendation import Recommendation


def subject_of(model: str, made: Recommendation) -> Subject:
    """What a recommendation would be measured as; `model`: its fingerprint."""
    return Subject.of(model, hardware_of(made.accelerator), made.options)


def hardware_of(accelerator: Accelerator) -> str:
    """A name that tells apart what is not equally fast: this machine's processors by their model and how many this
    process may use, all else by its name in the catalogue."""
    if not accelerator.probed:
        return accelerator.name
    return f"{_processor()} x {len(os.sched_getaffinity(0))}"


def _processor() -> str:
    """As the kernel names it."""
    lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "processors")
