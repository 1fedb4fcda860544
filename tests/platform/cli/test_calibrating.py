"""`pilotlight recommend` with what calibrations measured, and `--calibrate` where it cannot be done."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import reduce
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
from safetensors.numpy import save_file

from pilotlight.platform.calibration.records import RecordFile
from pilotlight.platform.calibration.subjects import subject_of
from pilotlight.platform.cli.calibrating import Calibrations, Question, widest
from pilotlight.recommender import Constraints, Slo, Workload, builtin, read_folder, recommend
from pilotlight.recommender.calibration import Measured, Record, Sample, Subject, dump
from pilotlight.recommender.facts import config_facts
from pilotlight.recommender.files import fingerprint
from pilotlight.recommender.shape import known_configs

CONFIG: Mapping[str, object] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 1,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 64,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}
MODEL = "sha256:" + "ab" * 32
L4 = builtin().find("l4")


class Result(Protocol):
    """How a command ended."""

    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    shapes = {f"model.layers.0.self_attn.{name}_proj.weight": (16, 16) for name in "qkvo"}
    shapes |= {f"model.layers.0.mlp.{name}_proj.weight": (32, 16) for name in ("gate", "up")}
    shapes |= {"model.layers.0.mlp.down_proj.weight": (16, 32), "model.embed_tokens.weight": (64, 16)}
    save_file({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, folder / "model.safetensors")
    return folder


@pytest.fixture
def subject(model: Path) -> Subject:
    return subject_of(fingerprint(model), recommend(read_folder(model), builtin().find("h100")))


def measured(subject: Subject) -> Record:
    """Twice a second at every load, so that it cannot be taken for an expectation."""
    loads = tuple(Measured(load=load, seconds=9.0, samples=(Sample(ttft=1.0, itl=0.5),) * 8) for load in (1, 4, 16, 64))
    return Record(
        subject=subject, engine="vllm 0.32.0", options={}, prompt=512, answer=256, began=1.8e9, measured=loads
    )


def figures(done: Result) -> tuple[float, list[str]]:
    """The time between tokens, and the notes."""
    assert done.code == 0, done.err
    (told,) = json.loads(done.out)
    return told["figures"]["itl"]["value"], told["notes"]


@pytest.mark.parametrize("place", ["state folder", "file"])
def test_what_was_measured_counts_and_is_told(
    place: str, model: Path, subject: Subject, tmp_path: Path, cli: Cli
) -> None:
    file = RecordFile.of(subject, tmp_path / "state") if place == "state folder" else RecordFile(tmp_path / "some.json")
    options = () if place == "state folder" else ("--store", str(file.path))
    asked = ("recommend", str(model), "--accelerator", "h100", "--json", *options)
    before, notes = figures(cli(*asked))
    file.write(measured(subject))

    after, told = figures(cli(*asked))
    assert before < 0.1
    assert any("nothing was measured" in note for note in notes)
    assert after > 0.4
    assert told[0].startswith("latencies: measured 20")
    assert f"on h100-sxm, requests in flight 1, 4, 16, 64 ({file.path})" in told[0]


def test_a_bound_that_only_seemed_out_of_reach_is_kept(model: Path, subject: Subject, tmp_path: Path, cli: Cli) -> None:
    quick = Measured(load=1, seconds=1.0, samples=(Sample(ttft=1e-3, itl=1e-4),) * 8)
    asked = ("recommend", str(model), "--accelerator", "h100", "--slo", "ttft=5ms", "--json")
    assert cli(*asked).code == 2

    RecordFile.of(subject, tmp_path / "state").write(measured(subject).model_copy(update={"measured": (quick,)}))
    assert figures(cli(*asked))[1][0].startswith("latencies: measured")


@pytest.mark.parametrize(
    ("name", "accelerator", "slo"),
    [
        ("nvidia/Llama-3.1-8B-Instruct-FP8", "l4", Slo()),
        ("meta-llama/Llama-3.1-70B", "b200-sxm", Slo(itl=0.1)),  # without the bound, two would be worth it
        ("openai/gpt-oss-120b", "l4", Slo()),  # fits in stages only
    ],
)
def test_what_is_measured_runs_on_the_accelerators_that_are_recommended(
    name: str, accelerator: str, slo: Slo, tmp_path: Path
) -> None:
    facts = config_facts(known_configs()[name])
    made = recommend(facts, builtin().find(accelerator), slo=slo)
    asked = Question(facts, MODEL, None, slo, Workload.usual(), Constraints())
    measuring, file = widest(asked, made), tmp_path / "some.json"
    file.write_bytes(dump(measured(subject_of(MODEL, measuring))))
    known = Calibrations(tmp_path, file).known(asked, made.accelerator)

    assert measuring.number("max_num_seqs") >= made.number("max_num_seqs")
    assert known is not None
    used = recommend(facts, made.accelerator, known.performance, constraints=known.constraints).plan.request
    for request in (measuring.plan.request, used):
        assert (request.ranks, request.stages) == (made.plan.request.ranks, made.plan.request.stages)


def test_a_record_of_longer_requests_than_the_context_is_taken_for_what_it_is(tmp_path: Path) -> None:
    config = {**known_configs()["nvidia/Llama-3.1-8B-Instruct-FP8"], "max_position_embeddings": 131_072}
    facts, file = config_facts(config), tmp_path / "some.json"
    made = recommend(facts, L4, workload=Workload.usual(100, 100))
    file.write_bytes(dump(measured(subject_of(MODEL, made)).model_copy(update={"prompt": 6000})))
    short, free = (
        Calibrations(tmp_path, file).known(
            Question(facts, MODEL, None, Slo(), Workload.usual(100, 100), Constraints(context=context)), L4
        )
        for context in (512, None)
    )

    assert short is not None
    assert free is not None
    assert short.performance.ttft_at(100, 4).value == pytest.approx(free.performance.ttft_at(100, 4).value, rel=0.05)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda subject: dump(measured(Subject.of(subject.model, "t4", {}))), "hardware is t4, expected h100-sxm"),
        (lambda _: dump(measured(Subject.of("sha256:" + "0" * 64, "h100-sxm", {}))), "model is sha256:000"),
        (lambda _: b"{}", "subject: Field required"),
    ],
)
def test_a_file_of_something_else_is_refused(
    content: Callable[[Subject], bytes], said: str, model: Path, subject: Subject, tmp_path: Path, cli: Cli
) -> None:
    file = tmp_path / "some.json"
    file.write_bytes(content(subject))
    done = cli("recommend", str(model), "--accelerator", "h100", "--store", str(file))

    assert (done.code, done.out) == (2, "")
    assert said in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("STAGED", "--accelerator", "l4", "--calibrate"), 1, "needs 16 x l4, but 0 are here"),
        (("MODEL/config.json", "--accelerator", "cpu", "--calibrate"), 1, "has to lie in a folder"),
        (("MODEL", "--accelerator", "lab-card", "--accelerators", "OWN", "--calibrate"), 1, "needs 1 x lab-card"),
        (("MODEL", "--accelerator", "cpu", "--calibrate", "--within", "soon"), 2, "--within"),
        (("MODEL", "--accelerator", "l4", "--accelerator", "t4", "--calibrate"), 2, "of one accelerator"),
        (("MODEL", "--compare", "--store", "some.json"), 2, "of one accelerator"),
    ],
)
def test_what_cannot_be_calibrated_is_told(
    arguments: tuple[str, ...], code: int, said: str, model: Path, tmp_path: Path, cli: Cli
) -> None:
    own = tmp_path / "own.yaml"
    staged = tmp_path / "staged"
    staged.mkdir()
    (staged / "config.json").write_text(json.dumps(known_configs()["openai/gpt-oss-120b"]))
    words = {"MODEL": model, "OWN": own, "STAGED": staged}
    own.write_text("lab-card: {memory: 17179869184, bandwidth: 4e11, flops: {fp16: 5e13}, source: a lab}")
    asked = [reduce(lambda word, name: word.replace(name, str(words[name])), words, word) for word in arguments]
    done = cli("recommend", *asked)

    assert (done.code, done.out) == (code, "")
    assert said in done.err
