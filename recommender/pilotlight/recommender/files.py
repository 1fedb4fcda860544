"""Reading a model's files: the first bytes of its tensors, never the weights themselves."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path

from pilotlight.recommender._parts import Tensor
from pilotlight.recommender.errors import BadConfig
from pilotlight.recommender.facts import ModelFacts, config_facts, read_facts

Read = Callable[[int, int], bytes]
"""Offset and length to bytes: of a file, or a ranged request."""
HEADER_BYTES = 100_000_000
"""Longest header that safetensors itself accepts."""
CONFIG_BYTES = 4 * 2**20
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64,
    "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip


def read_header(read: Read, name: str = "model.safetensors") -> dict[str, Tensor]:
    """Every tensor of one safetensors file, by two ranged reads of its first bytes.

    Args:
        read: Gives `length` bytes from `offset`, fewer only where the file ends.
        name: For errors.

    Raises:
        BadConfig: No safetensors file: too short, a header too long, not JSON, or sizes that contradict the shapes.
    """
    first = read(0, 8)
    length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
    if not 2 <= length <= HEADER_BYTES:
        raise BadConfig(name, f"{name} is no safetensors file: its first 8 bytes give a header of {length} bytes")
    data = read(8, length)
    try:
        header = json.loads(data) if len(data) == length else None
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise BadConfig(name, f"{name} is no safetensors file: its header of {length} bytes is cut off or no JSON")
    return {key: _tensor(name, key, entry) for key, entry in header.items() if key != "__metadata__"}


def _tensor(file: str, key: str, entry: object) -> Tensor:
    try:
        dtype, shape, (begin, end) = (entry[field] for field in ("dtype", "shape", "data_offsets"))  # type: ignore[index]
        values, size = prod(shape), end - begin
        bits = _BITS.get(dtype)
        if size < 0 or any(side < 0 for side in shape) or (bits is not None and size != -(-values * bits // 8)):
            raise ValueError
    except (TypeError, ValueError, KeyError):
        raise BadConfig(file, f"{file}: tensor {key[:200]} has no dtype, shape and offsets that agree") from None
    return Tensor(str(dtype), tuple(shape), size)


def read_folder(path: Path) -> ModelFacts:
    """Facts of a model in a folder, or of a `config.json` alone.

    Raises:
        BadConfig: It is no model: no configuration, or files that cannot be read as what their names say.
        ModelMismatch: The tensors contradict the configuration.
    """
    config, tensors = _read(path)
    return read_facts(config, tensors) if tensors else config_facts(config)


def fingerprint(path: Path) -> str:
    """`fingerprint_of` a model in a folder, or of a `config.json` alone.

    Raises:
        BadConfig: It is no model.
    """
    return fingerprint_of(*_read(path))


def fingerprint_of(config: Mapping[str, object], tensors: Mapping[str, Tensor]) -> str:
    """`sha256:...` of a model's shape: its configuration, and the names, formats and dimensions of its tensors.

    It stands for what a model costs to run, and is the same for all models that training made from one.
    """
    shape = {"config": config, "tensors": {name: [one.dtype, one.shape] for name, one in tensors.items()}}
    return f"sha256:{hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()}"


def _read(path: Path) -> tuple[Mapping[str, object], dict[str, Tensor]]:
    """The configuration and, of a folder, the tensors."""
    if path.is_file():
        return _json(path), {}
    if not (path / "config.json").is_file():
        raise BadConfig("config.json", f"{path} is not a model folder: there is no config.json in it")
    config = _json(path / "config.json")
    tensors: dict[str, Tensor] = {}
    for shard in _shards(path):
        tensors |= read_header(_ranges(shard), shard.name)
    return config, tensors


def _ranges(path: Path) -> Read:
    def read(offset: int, length: int) -> bytes:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    return read


def _shards(folder: Path) -> list[Path]:
    """The index's files where there is one: folders may hold the same weights twice."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        placed = _json(index, HEADER_BYTES).get("weight_map")
        named = sorted({str(name) for name in placed.values()}) if isinstance(placed, Mapping) else []
        return [_inside(folder, name) for name in named]
    whole = folder / "model.safetensors"
    return [whole] if whole.is_file() else sorted(folder.glob("*.safetensors"))


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if Path(name).name != name or not path.is_file():
        raise BadConfig("model.safetensors.index.json", f"{folder} lacks {name[:200]}, which its index names")
    return path


def _json(path: Path, limit: int = CONFIG_BYTES) -> Mapping[str, object]:
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(limit))
    except (OSError, ValueError, RecursionError) as error:
        raise BadConfig(path.name, f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadConfig(path.name, f"{path} holds no JSON object")
    return found
