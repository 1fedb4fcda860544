"""`pilotlight recommend`: a table, its reasons and JSON, of a folder, a file or a reference; what is wrong is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
from safetensors.numpy import save_file

from pilotlight.platform.cli.recommend_input import kinds
from pilotlight.platform.registry.refs import ModelRef
from pilotlight.platform.registry.registry import Registry
from pilotlight.recommender import Device, builtin
from pilotlight.runtime.stores import open_store

CONFIG: Mapping[str, object] = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "num_hidden_layers": 36,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 12288,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
}
TINY = {**CONFIG, "model_type": "llama", "architectures": ["LlamaForCausalLM"]} | {
    "num_hidden_layers": 1,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "intermediate_size": 32,
    "vocab_size": 64,
    "tie_word_embeddings": True,
}


class Result(Protocol):
    """How a command ended."""

    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(CONFIG))
    return str(file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "tiny"
    made.mkdir()
    (made / "config.json").write_text(json.dumps(TINY))
    shapes = {"q_proj": (16, 16), "k_proj": (8, 16), "v_proj": (8, 16), "o_proj": (16, 16)}
    tensors = {f"model.layers.0.self_attn.{name}.weight": shape for name, shape in shapes.items()}
    tensors |= {f"model.layers.0.mlp.{name}.weight": (32, 16) for name in ("gate_proj", "up_proj")}
    tensors |= {"model.layers.0.mlp.down_proj.weight": (16, 32), "model.embed_tokens.weight": (64, 16)}
    save_file({name: np.zeros(shape, np.float32) for name, shape in tensors.items()}, made / "model.safetensors")
    return made


def good(done: Result) -> str:
    assert done.code == 0, done.err
    return done.out


def test_a_configuration_is_enough(config: str, cli: Cli) -> None:
    header, row, *_ = good(cli("recommend", config, "--accelerator", "h100", "--slo", "ttft=2s,itl=50ms")).splitlines()

    assert header.split()[:2] == ["ACCELERATOR", "FITS"]
    assert row.split()[:3] == ["h100-sxm", "yes", "40,960"]


def test_options_may_come_first(config: str, cli: Cli) -> None:
    first = good(cli("recommend", "--accelerator", "h100", "--rate", "10", config))

    assert first == good(cli("recommend", config, "--accelerator", "h100", "--rate", "10"))


def test_json_has_every_figure_with_its_reason(config: str, cli: Cli) -> None:
    asked = ("--accelerator", "h100", "--slo", "itl=20ms", "--slo", "ttft=3s,itl=1s", "--kv-dtype", "fp8", "--json")
    lengths = ("--prompt", "p50=500,p99.9=6000", "--answer", "p50=100,p99=900,p100=2000", "--rate", "40")
    (told,) = json.loads(good(cli("recommend", config, *asked, *lengths)))

    assert told["fits"]
    assert told["figures"]["itl"]["value"] <= 0.02
    assert told["figures"]["max_model_len"]["value"] == 7936  # 7890 rounded up
    assert told["figures"]["max_tokens"]["value"] == 900
    assert told["figures"]["replicas"]["low"] <= told["figures"]["replicas"]["value"]
    assert all(figure["reason"] and "inputs" in figure for figure in told["figures"].values())
    assert told["options"]["kv_cache_dtype"] == "fp8"
    assert "greedy answers" in told["checks"][0]


def test_reasons_are_told_when_asked_for(config: str, cli: Cli) -> None:
    told = good(cli("recommend", config, "--accelerator", "h100", "--explain"))

    assert "NVIDIA H100 Tensor Core GPU datasheet" in told
    assert "weights 15.26 GiB + CUDA context" in told
    assert "note: latencies: nothing was measured" in told


def test_a_comparison_has_the_whole_catalogue_and_why_some_do_not_fit(config: str, tmp_path: Path, cli: Cli) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("toy: {memory: 1073741824, bandwidth: 1e11, flops: {bf16: 1e13}, source: a toy}")
    told = good(cli("recommend", config, "--compare", "--accelerators", str(own)))

    assert {"h100-sxm", "mi300x", "toy"} <= {line.split()[0] for line in told.splitlines()}
    assert "toy: weights" in told


def test_a_refusal_advises_an_accelerator_of_a_file(config: str, tmp_path: Path, cli: Cli) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("lab: {memory: 25769803776, bandwidth: 1e14, flops: {fp16: 1e14}, source: a lab}")
    asked = ("recommend", config, "--accelerator", "l4", "--slo", "itl=3ms")

    assert "take 1 x lab" not in cli(*asked).err
    assert "take 1 x lab" in cli(*asked, "--accelerators", str(own)).err


def test_both_kinds_of_parallelism_can_be_given(config: str, cli: Cli) -> None:
    asked = ("--accelerator", "t4", "--tensor-parallel", "2", "--pipeline-parallel", "3", "--json")
    (told,) = json.loads(good(cli("recommend", config, *asked)))

    assert (told["options"]["tensor_parallel_size"], told["options"]["pipeline_parallel_size"]) == (2, 3)


def test_devices_of_a_kind_are_counted_with_the_least_memory_of_one() -> None:
    cards = (("NVIDIA L4", 24), ("A Card", 96), ("NVIDIA H100 80GB HBM3", 80), ("NVIDIA L4", 23))
    devices = [Device(f"GPU-{number}", name, size) for number, (name, size) in enumerate(cards)]

    assert [(kind.name, kind.memory_bytes, kind.count) for kind in kinds(devices, builtin())] == [
        ("l4", 23, 2),
        ("h100-sxm", 80, 1),
    ]


def test_this_machine_is_measured_where_no_accelerator_is_named(folder: Path, cli: Cli) -> None:
    (told,) = json.loads(good(cli("recommend", str(folder), "--memory", "8Gi", "--json")))

    assert told["figures"]["memory_bytes"]["value"] < 8 * 2**30
    assert told["accelerator"] == "cpu" or "gpu_memory_utilization" in told["figures"]


def test_a_reference_is_read_from_the_state_folder_s_store(folder: Path, tmp_path: Path, cli: Cli) -> None:
    store = open_store(f"file://{tmp_path}/state/registry/models")
    Registry(store, "models").push(folder, ModelRef.parse("s3://models/tiny:v1"))

    by_reference = good(cli("recommend", "s3://models/tiny:v1", "--accelerator", "l4"))
    assert by_reference == good(cli("recommend", str(folder), "--accelerator", "l4"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name a model"),
        (("nowhere",), "there is no nowhere"),
        (("s3://models/none:v1",), "not in the registry"),
        (("s3://models",), "s3://"),
        (("CONFIG", "--accelerator", "h1000"), "nearest: h100-sxm"),
        (("CONFIG", "--accelerator", "h100", "--slo", "itl=1us"), "us"),
        (("CONFIG", "--accelerator", "h100", "--slo", "itl=1ms"), "set itl to 0.00"),
        (("CONFIG", "--accelerator", "h100", "--slo", "speed=1ms"), "--slo: 'speed=1ms'"),
        (("CONFIG", "--accelerator", "h100", "--prompt", "p50"), "--prompt: 'p50'"),
        (("CONFIG", "--accelerator", "h100", "--prompt", "p50=9,p10=90"), "rise"),
        (("CONFIG", "--accelerator", "h100", "--prompt", "0"), "one token or more"),
        (("CONFIG", "--accelerator", "h100", "--rate", "nan"), "rate is nan"),
        (("CONFIG", "--accelerator", "h100", "--tensor-parallel", "5"), "5 accelerators cannot split"),
        (("CONFIG", "--accelerator", "h100", "--pipeline-parallel", "40"), "40 stages cannot share"),
        (("CONFIG", "--accelerator", "h100", "--context", "1000000"), "more than the model's 40960"),
        (("CONFIG", "--accelerator", "h100", "--context", "0"), "context is 0"),
        (("CONFIG", "--accelerator", "h100", "--kv-dtype", "int3"), "kv_cache_dtype 'int3' is none of"),
        (("CONFIG", "--accelerator", "t4", "--tensor-parallel", "1"), "weights 15.26 GiB"),
    ],
)
def test_what_is_wrong_is_told(arguments: tuple[str, ...], said: str, config: str, cli: Cli) -> None:
    done = cli("recommend", *(config if word == "CONFIG" else word for word in arguments))

    assert done.code != 0
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert said in done.err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_key_value_heads": 5}, "32 attention heads cannot share 5"),
        ({"hidden_size": "wide"}, "hidden_size is 'wide'"),
        ({"num_hidden_layers": None}, "num_hidden_layers is None"),
    ],
)
def test_a_configuration_that_contradicts_itself_is_refused(
    change: dict[str, object], said: str, tmp_path: Path, cli: Cli
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, **change}))
    done = cli("recommend", str(tmp_path), "--accelerator", "h100")

    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_a_folder_without_a_model_is_refused(tmp_path: Path, cli: Cli) -> None:
    done = cli("recommend", str(tmp_path), "--accelerator", "h100")

    assert done.code == 2
    assert "not a model folder" in done.err


def test_an_option_that_there_is_not_is_a_usage_error(config: str, cli: Cli) -> None:
    assert cli("recommend", config, "--fast").code == 2
    assert cli("recommend", config, "second").code == 2
