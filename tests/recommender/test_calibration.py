"""Which loads a calibration measures, when it ends, what it makes of them, and which records it takes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.recommender.asking import known_shapes

from pilotlight.recommender import calibration, roofline
from pilotlight.recommender.accelerators import builtin
from pilotlight.recommender.calibration import Measured, Record, RecordRefused, Sample, Subject
from pilotlight.recommender.facts import config_facts
from pilotlight.recommender.performance import expected, fitted
from pilotlight.recommender.placing import setup_for
from pilotlight.recommender.roofline import Setup
from pilotlight.recommender.shape import known_configs
from pilotlight.recommender.workload import Workload

SETUP = Setup(known_shapes()["Qwen/Qwen3-32B"], builtin().find("h100"), prompt=1000, answer=500, tensor_parallel=2)
MODEL = "sha256:" + "ab" * 32
OPTIONS: dict[str, calibration.Option] = {
    "dtype": "float32",
    "max_num_seqs": 64,
    "max_num_batched_tokens": 2048,
    "enforce_eager": True,
}
SUBJECT = Subject.of(MODEL, "h100-sxm", OPTIONS)
EMPTY = Record(subject=SUBJECT, engine="vllm 0.32.0", options=OPTIONS, prompt=1000, answer=500, began=1.0)

MOST = st.integers(1, 100_000)
SECONDS = st.floats(1e-6, 80_000)
SAMPLES = st.builds(Sample, ttft=st.none() | SECONDS, itl=st.none() | SECONDS)
MEASURED = st.builds(
    Measured,
    load=st.integers(1, 1_000_000),
    seconds=SECONDS,
    samples=st.lists(SAMPLES, min_size=1, max_size=5).map(tuple),
)


def measured(load: int, scatter: float = 0.0) -> Measured:
    """Requests whose latencies are linear in the load, half of them above and half below."""
    samples = tuple(
        Sample(ttft=(0.05 + 2e-3 * load) * factor, itl=(0.02 + 3e-4 * load) * factor)
        for factor in (1 - scatter, 1 + scatter) * 4
    )
    return Measured(load=load, seconds=5.0, samples=samples)


def record(*loads: int, scatter: float = 0.0) -> Record:
    found = EMPTY
    for load in loads:
        found = found.plus(measured(load, scatter))
    return found


# Which loads


@given(MOST)
def test_loads_rise_from_one_request_to_the_most_and_are_four_or_five_where_there_is_room(most: int) -> None:
    wanted = calibration.loads(most)

    assert (wanted[0], wanted[-1]) == (1, most)
    assert list(wanted) == sorted(set(wanted))
    assert min(most, 4) <= len(wanted) <= 5


@given(MOST, st.data())
def test_whatever_is_measured_the_rest_follows_once_each_and_the_ends_first(most: int, data: st.DataObject) -> None:
    wanted = calibration.loads(most)
    done = data.draw(st.sets(st.sampled_from(wanted)))
    order: list[int] = []
    while (load := calibration.next_load(wanted, done | set(order))) is not None:
        order.append(load)

    assert sorted(order) == [load for load in wanted if load not in done]
    ends = [load for load in (1, most) if load not in done]
    assert set(order[: len(set(ends))]) == set(ends)


@given(MOST, MOST)
def test_measurements_of_a_wider_range_serve_a_narrower_one(most: int, other: int) -> None:
    narrow, wide = calibration.loads(min(most, other)), calibration.loads(max(most, other))

    assert calibration.next_load(narrow, wide) is None
    assert (calibration.next_load(wide, narrow) is None) == (narrow == wide)


@given(MOST, st.floats(0, 3600), st.lists(st.floats(0, 1), min_size=5, max_size=5))
def test_loads_that_end_early_leave_their_time_to_the_others_and_all_stay_within_the_bound(
    most: int, seconds: float, used: list[float]
) -> None:
    wanted, left, done, first = calibration.loads(most), seconds, set[int](), 0.0
    for load, share_used in zip(wanted, used, strict=False):
        granted = calibration.share(left, wanted, done)
        assert granted >= first * (1 - 1e-9)
        first = granted
        left -= granted * share_used
        done.add(load)

    assert left >= -1e-6 * seconds


@given(st.integers(1, 10_000), st.integers(0, 1000), st.integers(0, 1000))
def test_what_is_enough_stays_enough(load: int, ended: int, more: int) -> None:
    assert calibration.enough(load, ended) <= calibration.enough(load, ended + more)
    assert not calibration.enough(load, 5)
    assert calibration.enough(load, 64)


# What they say


def test_the_model_goes_through_what_was_measured() -> None:
    known = calibration.calibrated(record(1, 8, 64), SETUP, SETUP)

    assert known.itl_at(24).value == pytest.approx(0.02 + 3e-4 * 24, rel=0.03)
    assert known.ttft_at(1000, 24).value == pytest.approx(0.05 + 2e-3 * 24, rel=0.06)


def test_its_interval_is_that_of_single_requests() -> None:
    narrow, wide = (
        calibration.calibrated(record(1, 8, 64, scatter=scatter), SETUP, SETUP).itl_at(8) for scatter in (0, 0.2)
    )

    assert wide.high / wide.value > 1.25
    assert narrow.high / narrow.value < 1.1


def test_one_load_moves_the_whole_curve() -> None:
    expectation, known = expected(SETUP), calibration.calibrated(record(8), SETUP, SETUP)
    moved = known.itl_at(8).value / expectation.itl_at(8).value

    assert known.itl_at(64).value / expectation.itl_at(64).value == pytest.approx(moved, rel=0.1)


def test_nothing_measured_is_the_expectation() -> None:
    assert calibration.calibrated(EMPTY, SETUP, SETUP).itl_at(8) == fitted([], SETUP).itl_at(8)


def test_at_the_record_s_own_lengths_nothing_is_converted_and_longer_prompts_wait_longer() -> None:
    own = calibration.observations(record(8), SETUP, SETUP)
    longer = calibration.observations(record(8), replace(SETUP, prompt=4000), SETUP)

    assert [(seen.itl, seen.ttft) for seen in own] == [(one.itl, one.ttft) for one in measured(8).samples]
    for short, long in zip(own, longer, strict=True):
        assert short.ttft is not None
        assert long.ttft is not None
        assert long.ttft > 2 * short.ttft
        assert long.prompt == 4000


LLAMA = config_facts(
    {**known_configs()["nvidia/Llama-3.1-8B-Instruct-FP8"], "max_position_embeddings": 131_072}
    | {"quantization_config": {"quant_method": "fp8"}}
)
SHORT, LONG = (
    setup_for(LLAMA, builtin().find("l4"), Workload.usual(*lengths)) for lengths in ((128, 256), (6000, 256))
)


@pytest.mark.parametrize(("own", "asked"), [(SHORT, LONG), (LONG, SHORT)])
def test_where_the_engine_does_as_expected_at_one_length_it_is_expected_to_at_another(own: Setup, asked: Setup) -> None:
    found = EMPTY.model_copy(update={"prompt": int(own.prompt), "answer": int(own.answer)})
    for load in (1, 4, 16, 64):
        sample = Sample(ttft=roofline.ttft(own, own.prompt, load), itl=roofline.itl(own, load))
        found = found.plus(Measured(load=load, seconds=5.0, samples=(sample,) * 8))
    known = calibration.calibrated(found, asked, own)

    assert LONG.prompt == 6000
    assert LONG.resident < 64 < SHORT.resident < math.inf
    assert setup_for(LLAMA, builtin().find("l4"), found.workload) == own
    for load in (1, 4, 16, 64):
        assert known.itl_at(load).value == pytest.approx(roofline.itl(asked, load), rel=1e-3)
        assert known.ttft_at(asked.prompt, load).value == pytest.approx(
            roofline.ttft(asked, asked.prompt, load), rel=1e-3
        )


# Records


@given(st.lists(MEASURED, max_size=4, unique_by=lambda one: one.load))
def test_a_record_is_read_as_it_was_written(found: list[Measured]) -> None:
    whole = EMPTY.model_copy(update={"measured": tuple(found)})

    assert calibration.parse(calibration.dump(whole), "file") == whole


def test_a_load_that_is_measured_again_replaces_the_first() -> None:
    again = record(1, 8).plus(measured(8, scatter=0.1))

    assert again.loads == (1, 8)
    assert again.measured[-1] == measured(8, scatter=0.1)


def _changed(path: str, value: object) -> bytes:
    whole: Any = json.loads(calibration.dump(record(1, 8)))
    *parents, last = path.split(".")
    place = whole
    for name in parents:
        place = place[int(name) if name.isdecimal() else name]
    place[last] = value
    return json.dumps(whole).encode()


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("version", 2, "version"),
        ("colour", "red", "colour"),
        ("subject.model", "chat", "subject.model"),
        ("prompt", "1000", "prompt"),
        ("prompt", 0, "prompt"),
        ("began", float("nan"), "began"),
        ("measured.0.load", True, "measured.0.load"),
        ("measured.1.load", 1, "a load stands there twice"),
        ("measured.0.samples", [], "measured.0.samples"),
        ("measured.0.samples.0.itl", -0.1, "measured.0.samples.0.itl"),
        ("measured.0.samples.0.itl", float("inf"), "measured.0.samples.0.itl"),
        ("measured.0.samples.0.colour", 1, "measured.0.samples.0.colour"),
    ],
)
def test_what_is_no_record_is_refused_by_its_place(path: str, value: object, said: str) -> None:
    with pytest.raises(RecordRefused, match=said) as refused:
        calibration.parse(_changed(path, value), "the-file")

    assert refused.value.source == "the-file"


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 5000, b" " * (calibration.RECORD_BYTES + 1)])
def test_what_is_no_json_of_a_record_is_refused(data: bytes) -> None:
    with pytest.raises(RecordRefused):
        calibration.parse(data, "file")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Subject.of("sha256:" + "cd" * 32, "h100-sxm", OPTIONS), "model is sha256:ab"),
        (Subject.of(MODEL, "h200-sxm", OPTIONS), "hardware is h100-sxm, expected h200-sxm"),
        (Subject.of(MODEL, "h100-sxm", OPTIONS | {"tensor_parallel_size": 2}), "options is"),
    ],
)
def test_a_record_of_something_else_is_refused_by_the_difference(other: Subject, said: str) -> None:
    assert calibration.check(EMPTY, SUBJECT, "file") is EMPTY
    with pytest.raises(RecordRefused, match=said):
        calibration.check(EMPTY, other, "file")
    assert other.name != SUBJECT.name


def test_options_that_do_not_bear_on_speed_do_not_make_another_subject() -> None:
    same = Subject.of(MODEL, "h100-sxm", OPTIONS | {"max_model_len": 100, "tensor_parallel_size": None})

    assert same == SUBJECT
    assert same.name == SUBJECT.name


@pytest.mark.parametrize(
    ("change", "goes_on"),
    [
        ({"began": 2.0}, True),
        ({"options": OPTIONS | {"max_num_seqs": 8, "kv_cache_memory_bytes": 2**30}}, True),
        ({"options": OPTIONS | {"max_num_batched_tokens": 512}}, False),
        ({"engine": "vllm 0.33.0"}, False),
        ({"prompt": 999}, False),
        ({"answer": 499}, False),
    ],
)
def test_it_goes_on_only_from_the_same_engine_under_the_same_requests(change: dict[str, Any], goes_on: bool) -> None:
    assert EMPTY.goes_on(record(1).model_copy(update=change)) is goes_on
