"""A calibration with the simulated engine: measured, interrupted and resumed, out of time, refused."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from pilotlight.platform.calibration.calibrate import Job, calibrate
from pilotlight.platform.calibration.engine import EngineSetup, running
from pilotlight.platform.calibration.errors import CalibrationError
from pilotlight.platform.calibration.records import FOLDER, RecordFile
from pilotlight.recommender.calibration import Measured, Record, RecordRefused, Sample, Subject
from pilotlight.runtime import client, guard
from pilotlight.runtime.locks import holding
from pilotlight.runtime.spec import EngineSpec, ReplicaSpec

OPTIONS = {
    "max_num_seqs": 4,
    "simulated_prefill_base_seconds": 0.004,
    "simulated_decode_base_seconds": 0.001,
    "simulated_decode_stream_seconds": 0.001,
}
SUBJECT = Subject.of("sha256:" + "ab" * 32, "this machine", OPTIONS)


def job(seconds: float = 60.0, most: int = 4, **options: object) -> Job:
    whole = OPTIONS | options
    setup = EngineSetup(Path("/nowhere"), whole, kind="simulated")
    record = Record(subject=SUBJECT, engine="simulated", options=OPTIONS, prompt=8, answer=8, began=1.0)
    return Job(setup, record, most=most, vocabulary=1000, seconds=seconds)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def file(state: Path) -> RecordFile:
    return RecordFile.of(SUBJECT, state)


@pytest.fixture
def left() -> Callable[[], set[int]]:
    """Processes below this one that were not there before the test."""
    before = guard.descendants(os.getpid())
    return lambda: guard.descendants(os.getpid()) - before


async def test_every_load_is_measured_and_written(state: Path, file: RecordFile, left: Callable[[], set[int]]) -> None:
    told: list[str] = []
    record = await calibrate(job(), file, state, told.append)

    assert file.read(SUBJECT) == record
    assert record.loads == (1, 2, 3, 4)
    for one in record.measured:
        assert sum(sample.ttft is not None and sample.itl is not None for sample in one.samples) >= 3
        # The engine is never faster than it is told to be.
        assert all(sample.ttft is None or sample.ttft >= 4e-3 for sample in one.samples)
    assert [line.partition(" ")[0] for line in told[-4:]] == ["1", "2", "3", "4"]
    assert "in flight" in told[-1]
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert left() == set()
    assert sorted(path.name for path in (state / FOLDER).iterdir()) == sorted([file.path.name, "lock"])


async def test_what_was_measured_before_an_interruption_can_be_used_and_is_not_measured_again(
    state: Path, file: RecordFile, left: Callable[[], set[int]]
) -> None:
    first, told = asyncio.Event(), list[str]()

    def tell(line: str) -> None:
        told.append(line)
        if "of 4 loads" in line:
            first.set()

    task = asyncio.create_task(calibrate(job(), file, state, tell))
    await first.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    partial = file.read(SUBJECT)
    assert partial is not None
    assert 1 in partial.loads
    assert left() == set()

    told.clear()
    whole = await calibrate(job(), file, state, tell)
    assert whole.measured[: len(partial.measured)] == partial.measured
    assert whole.loads == (1, 2, 3, 4)
    assert sum("of 4 loads" in line for line in told) == 4 - len(partial.loads)

    told.clear()
    assert await calibrate(job(), file, state, tell) == whole
    assert told == []


async def test_without_time_for_every_load_the_record_has_the_others(state: Path, file: RecordFile) -> None:
    """The very first request never gets a token: its load's share of the time goes by, and the others get theirs."""
    record = await calibrate(job(6.0, simulated_stall_requests=1), file, state, lambda _: None)

    assert record.loads
    assert 1 not in record.loads


async def test_a_calibration_without_time_says_so(state: Path, file: RecordFile) -> None:
    with pytest.raises(CalibrationError, match=r"took longer|could be measured"):
        await calibrate(job(0.05), file, state, lambda _: None)
    assert not file.path.exists()


async def test_weights_that_take_too_long_to_read_end_it_too(state: Path, file: RecordFile, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    size = 2**40  # nothing is written, and to read it takes many minutes
    header = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    with (tmp_path / "model.safetensors").open("wb") as weights:
        weights.write(len(header).to_bytes(8, "little") + header)
        weights.truncate(8 + len(header) + size)
    large = replace(job(1.0), setup=EngineSetup(tmp_path, {}))

    with pytest.raises(CalibrationError, match="took longer than 1 s"):
        await calibrate(large, file, state, lambda _: None)


async def test_an_engine_whose_supervisor_hangs_is_killed_in_the_end(state: Path, left: Callable[[], set[int]]) -> None:
    setup = replace(job().setup, end_seconds=0.5)
    before = set(psutil.Process().children())
    async with running(setup, state / FOLDER, 60.0, lambda _: None):
        (supervisor,) = set(psutil.Process().children()) - before
        supervisor.suspend()

    assert left() == set()
    assert list((state / FOLDER).iterdir()) == []


async def test_other_requests_begin_anew(state: Path, file: RecordFile) -> None:
    before = Measured(load=3, seconds=1.0, samples=(Sample(itl=1.0),))
    file.write(job().record.model_copy(update={"prompt": 16, "measured": (before,)}))

    after = await calibrate(job(most=1), file, state, lambda _: None)
    assert (after.prompt, after.loads) == (8, (1,))
    assert file.read(SUBJECT) == after


async def test_a_file_of_something_else_is_refused_before_anything_starts(state: Path, file: RecordFile) -> None:
    file.write(job().record.model_copy(update={"subject": Subject.of(SUBJECT.model, "another machine", {})}))
    told: list[str] = []

    with pytest.raises(RecordRefused, match="hardware is another machine, expected this machine"):
        await calibrate(job(), file, state, told.append)
    assert told == []


@pytest.mark.parametrize("where", ["record", "state"])
async def test_what_cannot_be_written_is_told_before_anything_starts(where: str, state: Path, file: RecordFile) -> None:
    unwritable, told = Path("/proc/pilotlight"), list[str]()
    places = (RecordFile(unwritable), state) if where == "record" else (file, unwritable)

    with pytest.raises(CalibrationError, match=r"/proc/pilotlight.* cannot be written .*; make room"):
        await calibrate(job(), *places, told.append)
    assert told == []


async def test_a_record_that_cannot_be_written_any_more_is_told(tmp_path: Path, state: Path) -> None:
    folder = tmp_path / "records"

    def tell(line: str) -> None:
        if "ready" in line:
            folder.rmdir()
            folder.touch()

    with pytest.raises(CalibrationError, match="cannot be written"):
        await calibrate(job(), RecordFile(folder / "some.json"), state, tell)


async def test_two_at_once_are_refused(state: Path, file: RecordFile) -> None:
    with holding(state / FOLDER / "lock", 1.0), pytest.raises(CalibrationError, match="another calibration runs"):
        await calibrate(job(), file, state, lambda _: None)


async def test_an_engine_that_does_not_start_says_why(
    state: Path, file: RecordFile, left: Callable[[], set[int]]
) -> None:
    failing = job(simulated_fail_phase="load", simulated_fail_message="the weights are odd")

    with pytest.raises(CalibrationError, match="the engine did not start: the weights are odd"):
        await calibrate(failing, file, state, lambda _: None)
    assert left() == set()


async def test_an_engine_that_dies_leaves_what_was_measured(
    state: Path, file: RecordFile, left: Callable[[], set[int]]
) -> None:
    with pytest.raises(CalibrationError, match=r"does not answer any more: .* exit status 1"):
        await calibrate(job(simulated_crash_after_requests=8), file, state, lambda _: None)

    partial = file.read(SUBJECT)
    assert partial is not None
    assert partial.loads == (1,)
    assert left() == set()


async def test_what_a_killed_one_left_is_ended_and_removed_first(
    state: Path, file: RecordFile, left: Callable[[], set[int]]
) -> None:
    folder = state / FOLDER / ".engine-left" / "replica"
    engine = EngineSpec("simulated", {"simulated_load_seconds": 3600.0}, key="key")
    spec = ReplicaSpec("left", "pilotlight/left", "left", "generate", "", "", ("left",), engine)
    pid = client.launch(folder, spec)

    record = await calibrate(job(most=1), file, state, lambda _: None)
    assert record.loads == (1,)
    assert not client.alive(folder, pid)
    assert not folder.parent.exists()
    assert left() == set()
