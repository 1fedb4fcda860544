"""What the files of a model say of it, and everything that speaks against serving it.

The same judgement is passed on a folder before a push and, by the platform, on the store before a push is seen.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pilotlight.platform.registry.content import Content, is_pickle
from pilotlight.platform.registry.errors import ModelRefusedError
from pilotlight.runtime.models import BadManifestError, load_json
from pilotlight.runtime.tensors import BadHeaderError, TensorInfo, header_length, read_header

CONFIG_LIMIT = 4 * 2**20
INDEX_LIMIT = 64 * 2**20
_INDEX = ".safetensors.index.json"
_LISTED = 5  # problems of one kind that are spelled out


@dataclass(frozen=True)
class Judged:
    """What the files say of the model."""

    kind: Literal["model", "adapter"]
    tensors: Mapping[str, TensorInfo]
    config: Mapping[str, object]
    remote_code: bool


@dataclass
class _Findings:
    files: Mapping[str, Content]
    problems: list[str]
    headers: dict[str, dict[str, TensorInfo]] = field(default_factory=dict)
    indexes: dict[str, dict[str, str]] = field(default_factory=dict)

    def note(self, path: str, problem: str) -> None:
        self.problems.append(f"{path}: {problem}")


def judge(where: str, files: Mapping[str, Content], problems: list[str], *, trust_remote_code: bool) -> Judged:
    """`files` by their path in the model. Raises ModelRefusedError, `problems` among its own."""
    found = _Findings(files, problems)
    _check_pickles(found)
    kind = _kind(found)
    config = _config(found, "adapter_config.json" if kind == "adapter" else "config.json")
    remote = _remote_code(found)
    if remote and not trust_remote_code:
        found.problems.append(
            f"it brings code of its own ({', '.join(remote[:_LISTED])}), which the engine would run;"
            " trust it with trustRemoteCode (command line: --trust-remote-code) only if you have read it"
        )
    _read_headers(found)
    tensors = _tensors(found, kind)
    if found.problems:
        raise ModelRefusedError(where, found.problems)
    return Judged(kind, tensors, config, bool(remote))


def _check_pickles(found: _Findings) -> None:
    for path, file in found.files.items():
        if is_pickle(file):
            found.note(path, "pickled, loading it could run any code; convert it to safetensors or remove it")


def _kind(found: _Findings) -> Literal["model", "adapter"]:
    names = found.files.keys()
    adapter = "adapter_config.json" in names and ("config.json" not in names or "adapter_model.safetensors" in names)
    return "adapter" if adapter else "model"


def _config(found: _Findings, name: str) -> dict[str, object]:
    if name not in found.files:
        hint = "" if name == "adapter_config.json" else " (adapter_config.json for an adapter)"
        found.problems.append(f"no {name}{hint}: the engine cannot know what model this is")
        return {}
    loaded = _load(found, name, CONFIG_LIMIT)
    if loaded is not None and not isinstance(loaded, dict):
        found.note(name, "not a JSON object")
    return {key: _finite(value) for key, value in loaded.items()} if isinstance(loaded, dict) else {}


def _finite(value: object) -> object:
    """Some configs say Infinity, which JSON cannot; the manifest says it as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value


def _load(found: _Findings, path: str, limit: int) -> object:
    """The file's JSON; None and a problem noted when it has none."""
    if found.files[path].size > limit:
        found.note(path, f"larger than {limit} bytes")
        return None
    try:
        with found.files[path].open() as data:
            return load_json(data.read(limit + 1), limit)
    except BadManifestError as error:
        found.note(path, str(error))
        return None


def _remote_code(found: _Findings) -> list[str]:
    """Where the model asks for code of its own."""
    reasons = [path for path in found.files if path.endswith(".py")]
    for path in found.files:
        name = path.rpartition("/")[2]
        if name.endswith("config.json") and _anywhere(_load_quietly(found, path), "auto_map"):
            reasons.append(f"auto_map in {path}")
        if name == "modules.json" and not _all_known(_load_quietly(found, path)):
            reasons.append(f"module types in {path}")
    return reasons


def _load_quietly(found: _Findings, path: str) -> object:
    """As `_load`, but the file `config.json` has its problem noted already."""
    before = len(found.problems)
    loaded = _load(found, path, CONFIG_LIMIT)
    if path in ("config.json", "adapter_config.json"):
        del found.problems[before:]
    return loaded


def _anywhere(value: object, wanted: str) -> bool:
    if isinstance(value, dict):
        return wanted in value or any(_anywhere(item, wanted) for item in value.values())
    return isinstance(value, list) and any(_anywhere(item, wanted) for item in value)


def _all_known(modules: object) -> bool:
    """Sentence Transformers imports what `type` names."""
    kinds = [item.get("type") for item in modules if isinstance(item, dict)] if isinstance(modules, list) else []
    return all(isinstance(kind, str) and kind.startswith("sentence_transformers.") for kind in kinds)


def _read_headers(found: _Findings) -> None:
    for path, file in found.files.items():
        if path.endswith(".safetensors"):
            try:
                found.headers[path] = read_file_header(file)
            except BadHeaderError as error:
                found.note(path, f"not a sound safetensors file: {error}")


def read_file_header(file: Content) -> dict[str, TensorInfo]:
    """Raises BadHeaderError."""
    with file.open() as data:
        length = header_length(data.read(8), file.size)
        return read_header(data.read(length), file.size, file.path)


def _tensors(found: _Findings, kind: str) -> dict[str, TensorInfo]:
    """The index's tensors, else the one usual file's, else those of every file at the top."""
    for path in [path for path in found.files if path.endswith(_INDEX)]:
        _check_index(found, path)
    usual = "adapter_model" if kind == "adapter" else "model"
    shards = _shards(found, f"{usual}{_INDEX}")
    if not shards and f"{usual}.safetensors" in found.files:
        shards = [f"{usual}.safetensors"]
    shards = shards or [path for path in found.files if path.endswith(".safetensors") and "/" not in path]
    if not shards:
        found.problems.append("no weights: expected *.safetensors files")
    tensors: dict[str, TensorInfo] = {}
    for path in shards:
        _merge(found, tensors, path)
    return tensors


def _merge(found: _Findings, tensors: dict[str, TensorInfo], path: str) -> None:
    header = found.headers.get(path, {})
    if twice := sorted(tensors.keys() & header.keys()):
        found.note(path, f"tensor {twice[0]!r} is in {tensors[twice[0]].file} too")
    tensors.update(header)


def _shards(found: _Findings, index: str) -> list[str]:
    return sorted(set(found.indexes.get(index, {}).values()) & found.files.keys())


def _weight_map(index: object) -> dict[str, str]:
    names = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict) or not all(isinstance(file, str) for file in names.values()):
        return {}
    return names


def _check_index(found: _Findings, index: str) -> None:
    loaded = _load(found, index, INDEX_LIMIT)
    names = found.indexes[index] = _weight_map(loaded)
    if loaded is not None and not names:
        found.note(index, "no weight_map from tensors to files")
    folder = index.rpartition("/")[0]
    paths = {file: f"{folder}/{file}" if folder else file for file in set(names.values())}
    missing = sorted(file for file, path in paths.items() if path not in found.files)
    for file in missing[:_LISTED]:
        found.note(index, f"names the shard {file[:200]!r}, which is not there")
    lost = [name for name, file in names.items() if name not in found.headers.get(paths[file], {name: None})]
    for name in lost[:_LISTED]:
        found.note(index, f"tensor {name[:200]!r} is not in {names[name]}")
