"""Recommendations over the control API: for models that the key may read, each figure with its reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from pilotlight.platform.registry.refs import ModelRef
from pilotlight.platform.registry.registry import Registry
from pilotlight.runtime.stores import open_store

PATH = "/api/v1alpha1/recommendations"
CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 1,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "intermediate_size": 32,
    "vocab_size": 64,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}


@pytest.fixture(scope="module", autouse=True)
def _models(up: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save_file(_tensors(), folder / "model.safetensors")
    registry = Registry(open_store(f"file://{up.state}/registry/models"), "models")
    for reference in ("s3://models/tiny:v1", "s3://models/team-a/tiny:v1"):
        registry.push(Path(folder), ModelRef.parse(reference))


def _tensors() -> dict[str, Any]:
    heads = {"q_proj": (16, 16), "k_proj": (8, 16), "v_proj": (8, 16), "o_proj": (16, 16)}
    shapes = {f"model.layers.0.self_attn.{name}.weight": shape for name, shape in heads.items()}
    shapes |= {f"model.layers.0.mlp.{name}.weight": (32, 16) for name in ("gate_proj", "up_proj")}
    shapes |= {"model.layers.0.mlp.down_proj.weight": (16, 32), "model.embed_tokens.weight": (64, 16)}
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


def test_every_accelerator_answers_with_figures_and_reasons(up: Any) -> None:
    answer = up.ask("POST", PATH, json={"model": "s3://models/tiny:v1", "itl": 0.05, "rate": 3})

    assert answer.status_code == 200, answer.text
    rows = answer.json()["items"]
    assert {"h100-sxm", "l4"} <= {row["accelerator"] for row in rows}
    for row in rows:
        assert row["fits"], row["refusal"]
        assert row["figures"]["itl"]["high"] > row["figures"]["itl"]["value"]
        assert row["figures"]["replicas"]["inputs"]["rate"] == 3
        assert all(figure["reason"] for figure in row["figures"].values())


def test_lengths_and_accelerators_are_taken(up: Any) -> None:
    lengths = {"prompt": [[0.5, 300], [1, 1500]], "answer": [[0.5, 20], [0.99, 100], [1, 500]]}
    wanted = {"model": "s3://models/tiny:v1", "accelerators": ["L4"], "kv_dtype": "fp8", **lengths}
    [row] = up.ask("POST", PATH, json=wanted).json()["items"]

    assert row["accelerator"] == "l4"
    assert row["figures"]["max_tokens"]["value"] == 100
    assert 1900 < row["options"]["max_model_len"] < 2050
    assert "greedy answers" in row["checks"][0]


def test_both_kinds_of_parallelism_are_taken(up: Any) -> None:
    wanted = {"model": "s3://models/tiny:v1", "accelerators": ["l4"], "tensor_parallel": 2, "pipeline_parallel": 1}
    [row] = up.ask("POST", PATH, json=wanted).json()["items"]
    [refused] = up.ask("POST", PATH, json={**wanted, "pipeline_parallel": 2}).json()["items"]

    assert row["options"]["tensor_parallel_size"] == 2
    assert "2 stages cannot share the model's 1 layers" in refused["refusal"]


def test_a_bound_that_cannot_be_kept_is_told_beside_the_others(up: Any) -> None:
    [row] = up.ask("POST", PATH, json={"model": "s3://models/tiny:v1", "accelerators": ["l4"], "itl": 1e-9}).json()[
        "items"
    ]

    assert not row["fits"]
    assert "or more" in row["refusal"]


def test_a_key_gets_none_for_a_model_that_it_may_not_read(up: Any) -> None:
    key = up.ask("POST", "/api/v1alpha1/keys", json={"name": "b", "namespaces": ["team-b"]}).json()["secret"]

    assert up.ask("POST", PATH, key, json={"model": "s3://models/tiny:v1"}).status_code == 200
    assert up.ask("POST", PATH, key, json={"model": "s3://models/team-a/tiny:v1"}).status_code == 403


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"accelerators": ["h1000"]}, 422, "nearest: h100-sxm"),
        ({"model": "s3://models/none:v1"}, 422, "not in the registry"),
        ({"model": "hf://org/name"}, 422, "pilotlight models import"),
        ({"model": "tiny"}, 422, "tiny"),
        ({"prompt": [[0.5, 9], [0.1, 90]]}, 422, "prompt: quantiles must rise"),
        ({"prompt": []}, 400, "prompt"),
        ({"itl": 0}, 400, "itl"),
        ({"itl": 1e307}, 400, "itl"),
        ({"rate": 1e308}, 400, "rate"),
        ({"rate": "NaN"}, 400, "rate"),
        ({"speed": 1}, 400, "speed"),
    ],
)
def test_what_makes_no_sense_is_refused(up: Any, change: dict[str, Any], status: int, said: str) -> None:
    answer = up.ask("POST", PATH, json={"model": "s3://models/tiny:v1", **change})

    assert answer.status_code == status, answer.text
    assert said in answer.text
