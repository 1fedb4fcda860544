"""What is refused before anything is uploaded, and what is not."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pilotlight.platform.registry.errors import ModelRefusedError
from pilotlight.platform.registry.inspection import inspect_folder

MakeModel = Callable[..., Path]
Weights = Callable[[Mapping[str, bytes]], bytes]


def problems(folder: Path) -> tuple[str, ...]:
    with pytest.raises(ModelRefusedError) as caught:
        inspect_folder(folder)
    return caught.value.problems


def zipped(name: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(name, "x")
    return data.getvalue()


LYING = (40).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[9],"data_of' + b"x" * 10


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        pytest.param({"pytorch_model.bin": b"x"}, "pytorch_model.bin: pickled", id="bin"),
        pytest.param({"sub/x.PT": b"x"}, "sub/x.PT: pickled", id="pt in a folder"),
        pytest.param({"x.pth": b"x"}, "x.pth: pickled", id="pth"),
        pytest.param({"x.ckpt": b"x"}, "x.ckpt: pickled", id="ckpt"),
        pytest.param({"x.pkl": b"x"}, "x.pkl: pickled", id="pkl"),
        pytest.param({"weights.dat": pickle.dumps([1])}, "weights.dat: pickled", id="pickle by another name"),
        pytest.param({"weights.dat": zipped("archive/data.pkl")}, "weights.dat: pickled", id="zipped pickle"),
        pytest.param({"model.safetensors": b"\x05"}, "truncated", id="weights cut off"),
        pytest.param({"model.safetensors": LYING}, "not a sound safetensors file", id="header cut off"),
        pytest.param({"model.safetensors": None}, "no weights", id="no weights"),
        pytest.param({"config.json": None}, "no config.json", id="no config"),
        pytest.param({"config.json": b"[]"}, "not a JSON object", id="config no object"),
        pytest.param({"config.json": b'{"a":1,"a":2}'}, "stands twice", id="config with a key twice"),
        pytest.param({"config.json": b'{"auto_map":{"AutoModel":"m.M"}}'}, "code of its own", id="auto_map"),
        pytest.param(
            {"tokenizer_config.json": b'{"x":[{"auto_map":{}}]}'},
            "auto_map in tokenizer_config.json",
            id="auto_map deep",
        ),
        pytest.param({"modeling.py": b"import os"}, "modeling.py", id="python file"),
        pytest.param({"modules.json": b'[{"type":"custom.Module"}]'}, "module types", id="custom module"),
        pytest.param({"we?ird.json": b"{}"}, "not valid", id="odd name"),
        pytest.param(
            {"model.safetensors.index.json": b'{"weight_map":{"embed":"model-2.safetensors"}}'},
            "'model-2.safetensors', which is not there",
            id="missing shard",
        ),
        pytest.param(
            {"model.safetensors.index.json": b'{"weight_map":{"embed":"../../etc/x.safetensors"}}'},
            "not there",
            id="shard out of the folder",
        ),
        pytest.param(
            {"model.safetensors.index.json": b'{"weight_map":{"norm":"model.safetensors"}}'},
            "tensor 'norm' is not in model.safetensors",
            id="index lies",
        ),
        pytest.param({"model.safetensors.index.json": b"{}"}, "no weight_map", id="empty index"),
    ],
)
def test_a_model_that_could_harm_or_cannot_load_is_refused(
    make_model: MakeModel, files: dict[str, bytes | None], problem: str
) -> None:
    assert any(problem in found for found in problems(make_model(files=files)))


def test_everything_that_is_wrong_is_told_at_once(make_model: MakeModel) -> None:
    found = problems(make_model(files={"a.bin": b"", "config.json": None, "model.safetensors": b""}))
    assert len(found) >= 3


def test_a_symbolic_link_is_refused(make_model: MakeModel, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    folder = make_model()
    (folder / "notes.txt").symlink_to(secret)
    (folder / "sub").symlink_to(tmp_path)
    assert [found.split(":")[0] for found in problems(folder)] == ["notes.txt", "sub"]
    (tmp_path / "link").symlink_to(folder)
    assert problems(tmp_path / "link") == ("not a folder",)


def test_remote_code_passes_when_it_is_trusted_and_is_told(make_model: MakeModel) -> None:
    folder = make_model(files={"modeling.py": b"", "config.json": b'{"auto_map":{}}'})
    assert inspect_folder(folder, trust_remote_code=True).judged.remote_code
    assert not inspect_folder(make_model("plain"), trust_remote_code=True).judged.remote_code


def test_an_adapter_has_its_own_config(make_model: MakeModel, weights: Weights) -> None:
    files = {
        "config.json": None,
        "adapter_config.json": b'{"r":8}',
        "model.safetensors": None,
        "adapter_model.safetensors": weights({"lora": b"1234"}),
    }
    judged = inspect_folder(make_model(files=files)).judged
    assert (judged.kind, judged.config, list(judged.tensors)) == ("adapter", {"r": 8}, ["lora"])


def test_the_tensors_are_those_of_the_shards_in_the_index(make_model: MakeModel, weights: Weights) -> None:
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    files = {
        "one.safetensors": weights({"a": b"1"}),
        "two.safetensors": weights({"b": b"22"}),
        "model.safetensors.index.json": json.dumps(index).encode(),
        "1_Dense/model.safetensors": weights({"a": b"333"}),
    }
    judged = inspect_folder(make_model(files=files)).judged
    assert {name: tensor.file for name, tensor in judged.tensors.items()} == {
        "a": "one.safetensors",
        "b": "two.safetensors",
    }


def test_a_tensor_in_two_files_without_an_index_is_refused(make_model: MakeModel, weights: Weights) -> None:
    files = {"model.safetensors": None, "x.safetensors": weights({"a": b"1"}), "y.safetensors": weights({"a": b"1"})}
    assert problems(make_model(files=files)) == ("y.safetensors: tensor 'a' is in x.safetensors too",)


def test_a_config_that_json_cannot_say_is_said_as_text(make_model: MakeModel) -> None:
    judged = inspect_folder(make_model(files={"config.json": b'{"limit":[0.0,Infinity],"x":NaN}'})).judged
    assert judged.config == {"limit": [0.0, "Infinity"], "x": "NaN"}
