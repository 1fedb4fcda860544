"""Models are read by the first bytes of their files, and what is no model is refused."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pilotlight.recommender import BadConfig, Tensor, read_folder, read_header
from pilotlight.recommender.files import fingerprint

CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
    "dtype": "float32",
}


def _file(header: object, extra: bytes = b"") -> bytes:
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(data)) + data + extra


def _weights(folder: Path) -> None:
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("q_proj", "k_proj", "v_proj", "o_proj"), (16, 16))
    names: dict[str, tuple[int, ...]] = {f"self_attn.{name}": shape for name, shape in shapes.items()}
    names |= {"mlp.gate_proj": (32, 16), "mlp.up_proj": (32, 16), "mlp.down_proj": (16, 32)}
    names |= {"input_layernorm": (16,), "post_attention_layernorm": (16,)}
    tensors: dict[str, tuple[int, ...]] = {f"model.layers.0.{name}.weight": shape for name, shape in names.items()}
    tensors |= {"model.embed_tokens.weight": (64, 16), "model.norm.weight": (16,)}
    save_file({name: np.zeros(shape, np.float32) for name, shape in tensors.items()}, folder / "model.safetensors")


def test_a_header_is_read_by_two_ranges_and_no_byte_of_a_weight() -> None:
    save = _file({"__metadata__": {"format": "pt"}, "a": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}})
    asked: list[tuple[int, int]] = []

    def read(offset: int, length: int) -> bytes:
        asked.append((offset, length))
        return save[offset : offset + length]

    assert read_header(read) == {"a": Tensor("BF16", (2, 3), 12)}
    assert asked == [(0, 8), (8, len(save) - 8)]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(b"", "no safetensors file", id="empty"),
        pytest.param(b"\xff" * 8, "no safetensors file", id="a header longer than any"),
        pytest.param(struct.pack("<Q", 50) + b"{}", "cut off", id="cut off"),
        pytest.param(_file(b"[1]"), "no JSON", id="no object"),
        pytest.param(_file(b"{" * 5000), "no JSON", id="no JSON"),
        pytest.param(_file({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}), "tensor a", id="too short"),
        pytest.param(_file({"a": {"dtype": "F32", "shape": [2]}}), "tensor a", id="no offsets"),
        pytest.param(_file({"a": 7}), "tensor a", id="no tensor"),
        pytest.param(_file({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [8, 0]}}), "tensor a", id="negative"),
    ],
)
def test_what_is_no_safetensors_file_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(BadConfig, match=said):
        read_header(lambda offset, length: data[offset : offset + length])


def test_packed_numbers_smaller_than_a_byte_are_read() -> None:
    data = _file({"a": {"dtype": "F4", "shape": [2, 16], "data_offsets": [0, 16]}})

    assert read_header(lambda offset, length: data[offset : offset + length])["a"].bytes == 16


def test_a_folder_a_configuration_alone_and_its_weights_agree(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    alone = read_folder(tmp_path / "config.json")
    without = read_folder(tmp_path)
    _weights(tmp_path)

    whole = read_folder(tmp_path)

    assert alone == without
    assert (whole.parameters, whole.weight_bytes) == (alone.parameters, alone.weight_bytes)
    assert whole.parameters_by_kind == alone.parameters_by_kind
    assert whole.parameters_by_dtype == {"F32": whole.parameters}
    assert [whole.rank_weight_bytes(ranks) for ranks in (1, 2, 4)] == [alone.rank_weight_bytes(n) for n in (1, 2, 4)]


def test_a_fingerprint_is_of_the_shape_and_not_of_the_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    alone = fingerprint(tmp_path / "config.json")
    _weights(tmp_path)
    whole = fingerprint(tmp_path)
    stored = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(stored[:-4] + b"\x00\x00\x80\x3f")
    trained = fingerprint(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"max_position_embeddings": 256}))

    assert trained == whole
    assert len({alone, whole, fingerprint(tmp_path)}) == 3
    with pytest.raises(BadConfig, match="not a model folder"):
        fingerprint(tmp_path / "none")


def test_files_of_the_index_count_and_others_do_not(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    _weights(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00001.safetensors")
    _weights(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "consolidated.safetensors")
    placed = {"model.norm.weight": "model-00001-of-00001.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))

    assert read_folder(tmp_path).weight_bytes == read_folder(tmp_path / "config.json").weight_bytes


@pytest.mark.parametrize("name", ["missing.safetensors", "../outside.safetensors"])
def test_an_index_cannot_name_files_that_are_not_there_or_elsewhere(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path.parent / "outside.safetensors").write_bytes(_file({}))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))

    with pytest.raises(BadConfig, match="which its index names"):
        read_folder(tmp_path)


def test_what_is_no_model_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"is not a model folder: there is no config.json"):
        read_folder(tmp_path)
    with pytest.raises(BadConfig, match="is not a model folder"):
        read_folder(tmp_path / "nowhere")


@pytest.mark.parametrize(("text", "said"), [("{", "cannot be read as JSON"), ("[]", "holds no JSON object")])
def test_a_configuration_that_cannot_be_read_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config.json").write_text(text)

    with pytest.raises(BadConfig, match=said):
        read_folder(tmp_path)


def test_sizing_needs_neither_torch_nor_vllm_nor_transformers(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    program = (
        "import sys; from pathlib import Path; from pilotlight.recommender import *\n"
        f"facts = read_folder(Path({str(tmp_path)!r}))\n"
        "plan_memory(facts, Device('0', 'any', 2**34)); size(facts, Machine(2**34, 2), SizingRequest('generate'))\n"
        "print(sorted({'torch', 'vllm', 'transformers'} & sys.modules.keys()))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
