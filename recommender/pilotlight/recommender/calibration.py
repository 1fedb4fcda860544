"""Calibration: which loads of the real engine to measure, when it is enough, and what the measurements say. Pure.

A load is a number of requests in flight in a closed loop: each answer that ends is followed by the next request. The
record keeps what single requests saw, not their means, so that the fit's noise is that of requests: its 95 % interval
is where the next request's latency will be, which is what a bound on latency is about.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pilotlight.recommender import roofline
from pilotlight.recommender.errors import RecommenderError
from pilotlight.recommender.performance import Observation, Performance, fitted
from pilotlight.recommender.roofline import Setup
from pilotlight.recommender.workload import Workload

LOADS = 5
"""Distinct loads that are measured, where there is room between the ends for so many."""
RECORD_BYTES = 2**20
_ENDED, _PER_STREAM, _MOST_ENDED = 6, 3, 64
SPEED_OPTIONS = ("dtype", "kv_cache_dtype", "quantization", "tensor_parallel_size", "pipeline_parallel_size")
"""vLLM's options that make another engine of it: measurements at one value say nothing of another."""

Option = bool | int | float | str | None
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class RecordRefused(RecommenderError):  # noqa: N818 - a verdict, not a failure
    """A file is no calibration record, or one of something else.

    Args:
        source: The file.
        problem: What is wrong with it, where, and what was expected.
    """

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(
            f"{source} is no calibration that can be used here: {problem}; remove it, or name another file"
        )
        self.source = source
        self.problem = problem


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Sample(_Strict):
    """One request. None: it was not seen at the full load, or too little of it."""

    ttft: Seconds | None = None
    itl: Seconds | None = None
    """Mean of its tokens."""


class Measured(_Strict):
    """One load."""

    load: Annotated[int, Field(ge=1, le=1_000_000)]
    """Requests in flight."""
    seconds: Seconds
    samples: Annotated[tuple[Sample, ...], Field(min_length=1, max_length=2_000)]


class Subject(_Strict):
    """What was measured: records of equal subjects stand for each other.

    A model is its shape (`files.fingerprint`): a fine-tuned model is as fast as the one it came from.
    """

    model: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    hardware: Annotated[str, Field(min_length=1, max_length=200)]
    options: Mapping[str, Option]
    """Of `SPEED_OPTIONS`, those that are set."""

    @staticmethod
    def of(model: str, hardware: str, options: Mapping[str, object]) -> Subject:
        """`options` are an engine's, those that bear on speed among them."""
        set_ = {name: options[name] for name in SPEED_OPTIONS if options.get(name) is not None}
        return Subject.model_validate({"model": model, "hardware": hardware, "options": set_})

    @property
    def name(self) -> str:
        """The same for equal subjects; fit for a file."""
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()[:32]


class Record(_Strict):
    """What was measured of one subject; may be unfinished."""

    version: Literal[1] = 1
    subject: Subject
    engine: Annotated[str, Field(max_length=200)]
    """Name and version."""
    options: Mapping[str, Option]
    """All that the engine was started with."""
    prompt: Annotated[int, Field(ge=1, le=10_000_000)]
    """Tokens of each."""
    answer: Annotated[int, Field(ge=1, le=10_000_000)]
    """Mean tokens."""
    began: Annotated[float, Field(ge=0)]
    """Unix time."""
    measured: Annotated[tuple[Measured, ...], Field(max_length=100)] = ()

    @property
    def workload(self) -> Workload:
        """The requests that were measured."""
        return Workload.usual(self.prompt, self.answer)

    @property
    def loads(self) -> tuple[int, ...]:
        return tuple(sorted(one.load for one in self.measured))

    def plus(self, measured: Measured) -> Record:
        """With one load more, in place of an earlier measurement of it."""
        others = tuple(one for one in self.measured if one.load != measured.load)
        return self.model_copy(update={"measured": (*others, measured)})

    def goes_on(self, other: Record) -> bool:
        """Whether this may be measured on from `other`: the same engine and the same requests."""
        same = all(getattr(self, name) == getattr(other, name) for name in ("subject", "engine", "prompt", "answer"))
        return same and _without_capacity(self.options) == _without_capacity(other.options)


def loads(most: int) -> tuple[int, ...]:
    """Up to `LOADS` of them from 1 to `most`, both included, in equal ratios."""
    steps = min(LOADS, most) - 1
    return tuple(sorted({1, most, *(round(most ** (step / steps)) for step in range(1, steps))}))


def next_load(wanted: Sequence[int], measured: Collection[int]) -> int | None:
    """Which of the `wanted`, rising, comes next; None: as many are measured, over a range at least as wide.

    The ends first: with them every load between is an interpolation, however early the rest is broken off. Then the
    one whose nearest measured neighbour is farthest in ratio.
    """
    if len(measured) >= len(wanted) and min(measured) <= wanted[0] and max(measured) >= wanted[-1]:
        return None
    missing = [load for load in wanted if load not in measured]
    ends = [load for load in (wanted[0], wanted[-1]) if load in missing]
    if not missing or ends:
        return ends[0] if ends else None
    return max(missing, key=lambda load: min(abs(math.log(load / other)) for other in measured))


def share(seconds_left: float, wanted: Sequence[int], measured: Collection[int]) -> float:
    """Seconds that the next load may take, so that all that are missing get as much."""
    return max(0.0, seconds_left) / max(1, sum(load not in measured for load in wanted))


def enough(load: int, ended: int) -> bool:
    """Whether so many requests, sent and ended at the full load, will do: a few rounds of all streams."""
    return ended >= min(_MOST_ENDED, max(_ENDED, _PER_STREAM * load))


def calibrated(record: Record, setup: Setup, own: Setup) -> Performance:
    """The performance model by the record.

    Args:
        record: What was measured.
        setup: With the lengths that are asked for.
        own: The same with the record's lengths, `placing.setup_for` with `Record.workload`: how many requests the cache
            holds depends on them too.
    """
    return fitted(observations(record, setup, own), setup)


def observations(record: Record, setup: Setup, own: Setup) -> list[Observation]:
    """What the record would have seen at the lengths of `setup`, by the roofline's ratio; at its own, what it saw."""
    found = []
    for one in record.measured:
        gap = roofline.itl(setup, one.load) / roofline.itl(own, one.load)
        first = roofline.ttft(setup, setup.prompt, one.load) / roofline.ttft(own, own.prompt, one.load)
        found += [
            Observation(float(one.load), setup.prompt, _times(sample.itl, gap), _times(sample.ttft, first))
            for sample in one.samples
        ]
    return found


def dump(record: Record) -> bytes:
    return record.model_dump_json(indent=1).encode() + b"\n"


def parse(data: bytes, source: str) -> Record:
    """Read a record strictly.

    Raises:
        RecordRefused: It is none: no JSON, another version, unknown or missing fields, senseless numbers.
    """
    if len(data) > RECORD_BYTES:
        raise RecordRefused(source, f"it is larger than {RECORD_BYTES} bytes")
    try:
        record = Record.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise RecordRefused(source, f"{where}: {first['msg']}") from None
    if len(set(record.loads)) != len(record.measured):
        raise RecordRefused(source, "measured: a load stands there twice")
    return record


def check(record: Record, subject: Subject, source: str) -> Record:
    """The record itself, if it is of `subject`.

    Raises:
        RecordRefused: It is of another; the first difference is named.
    """
    theirs, ours = record.subject.model_dump(), subject.model_dump()
    for name in ours:
        if theirs[name] != ours[name]:
            raise RecordRefused(source, f"{name} is {theirs[name]}, expected {ours[name]}")
    return record


_CAPACITY = frozenset(
    {"max_num_seqs", "max_model_len", "kv_cache_memory_bytes", "gpu_memory_utilization", "num_gpu_blocks_override"}
)
"""Options that say how much fits, not how fast it is."""


def _without_capacity(options: Mapping[str, Option]) -> dict[str, Option]:
    return {name: value for name, value in options.items() if name not in _CAPACITY}


def _times(seconds: float | None, factor: float) -> float | None:
    return None if seconds is None else seconds * factor
