"""What is measured for a recommendation, and on which hardware."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pilotlight.platform.calibration.errors import CalibrationError
from pilotlight.platform.calibration.planning import hardware_here, job_for
from pilotlight.platform.calibration.subjects import hardware_of, subject_of
from pilotlight.recommender import Device, ModelFacts, read_folder
from pilotlight.recommender.accelerators import Accelerator, builtin
from pilotlight.recommender.calibration import loads
from pilotlight.recommender.files import fingerprint
from pilotlight.recommender.recommendation import Recommendation, recommend
from pilotlight.recommender.workload import Constraints, Workload

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
CPU = Accelerator("cpu", 16 * 2**30, 2e10, {"fp32": 1e11}, "a guess", kind="cpu", probed=True)
ENTRY = replace(CPU, name="epyc-9654", probed=False)
H100 = builtin().find("h100")
CARDS = tuple(Device(f"GPU-{number}", "NVIDIA H100 80GB HBM3", 80 * 2**30) for number in range(2))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


@pytest.fixture
def facts(model: Path) -> ModelFacts:
    return read_folder(model)


def made(facts: ModelFacts, workload: Workload, context: int | None = None) -> Recommendation:
    return recommend(facts, CPU, workload=workload, constraints=Constraints(context=context))


def test_the_recommended_engine_is_measured_at_the_lengths_that_it_is_for(model: Path, facts: ModelFacts) -> None:
    expectation = made(facts, Workload.usual(100, 50))
    job = job_for(model, facts, expectation, hardware_here(CPU, 1, (), builtin()), now=7.0, seconds=60.0)

    assert (job.record.prompt, job.record.answer, job.record.began) == (100, 50, 7.0)
    assert job.record.options == job.setup.options == expectation.options
    assert loads(job.most)[-1] == expectation.options["max_num_seqs"]
    assert job.record.subject == subject_of(fingerprint(model), expectation)
    assert job.record.measured == ()
    assert job.seconds == 60.0


@pytest.mark.parametrize("lengths", [(5000, 5000), (200, 5000), (5000, 10)])
def test_no_request_is_longer_than_the_context(lengths: tuple[int, int], model: Path, facts: ModelFacts) -> None:
    expectation = made(facts, Workload.usual(*lengths), context=512)
    requests = job_for(model, facts, expectation, hardware_here(CPU, 1, (), builtin()), now=0.0).requests

    assert requests.prompt + max(requests.tokens(number) for number in range(100)) <= 512
    assert requests.prompt >= 1


def test_an_embedder_is_refused(model: Path, facts: ModelFacts) -> None:
    embedding = recommend(facts, CPU, constraints=Constraints(task="embed"))

    with pytest.raises(CalibrationError, match="embedder"):
        job_for(model, facts, embedding, hardware_here(CPU, 1, (), builtin()), now=0.0)


def test_accelerators_of_this_machine_are_taken_by_what_the_driver_calls_them() -> None:
    here = hardware_here(H100, 2, CARDS, builtin())

    assert here.name == hardware_of(H100) == "h100-sxm"
    assert here.devices == ("GPU-0", "GPU-1")


def test_processors_of_a_catalogue_are_not_those_of_this_machine() -> None:
    assert hardware_of(ENTRY) == "epyc-9654"
    assert hardware_of(CPU) != CPU.name
    with pytest.raises(CalibrationError, match="epyc-9654 is an entry of a catalogue"):
        hardware_here(ENTRY, 1, (), builtin())


@pytest.mark.parametrize("devices", [CARDS[:1], (Device("GPU-9", "Some Card", 2**30),), ()])
def test_what_this_machine_has_not_is_refused(devices: tuple[Device, ...]) -> None:
    with pytest.raises(CalibrationError, match=r"needs 2 x h100-sxm, but [01] are here"):
        hardware_here(H100, 2, devices, builtin())
