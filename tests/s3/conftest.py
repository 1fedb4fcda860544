from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """A sound model of one tensor of `size` bytes in a folder."""

    def make(size: int = 8) -> Path:
        folder = tmp_path / "model"
        folder.mkdir()
        header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
        data = (bytes(range(251)) * (size // 251 + 1))[:size]
        (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data)
        (folder / "config.json").write_bytes(b'{"architectures":["LlamaForCausalLM"]}')
        return folder

    return make
