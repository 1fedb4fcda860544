"""What a folder holds, judged before anything of it is uploaded or run."""

from __future__ import annotations

import json
import math
import stat
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, Protocol

from pilotlight.platform.registry.errors import ModelRefusedError
from pilotlight.runtime.models import FILE_LIMIT, BadManifestError, check_path, load_json
from pilotlight.runtime.tensors import BadHeaderError, TensorInfo, header_length, read_header

PICKLES = frozenset({".bin", ".ckpt", ".dill", ".joblib", ".pickle", ".pkl", ".pt", ".pth"})
"""Endings under which weights are pickled: loading them runs whatever code they hold."""
CONFIG_LIMIT = 4 * 2**20
INDEX_LIMIT = 64 * 2**20
_INDEX = ".safetensors.index.json"
_LISTED = 5  # problems of one kind that are spelled out


class Content(Protocol):
    """A file that is judged: on disk before a push, in the store before the platform lets a push be seen."""

    @property
    def path(self) -> str:
        """Its place in the model."""

    @property
    def size(self) -> int: ...

    def open(self) -> BinaryIO: ...


@dataclass(frozen=True)
class SourceFile:
    """A file to push: where it will be in the model, and where it is now."""

    path: str
    source: Path
    size: int  # bytes
    modified_ns: int

    def open(self) -> BinaryIO:
        return self.source.open("rb")


@dataclass(frozen=True)
class Judged:
    """What the files say of the model."""

    kind: Literal["model", "adapter"]
    tensors: Mapping[str, TensorInfo]
    config: Mapping[str, object]
    remote_code: bool


@dataclass(frozen=True)
class Inspected:
    """A folder that may be pushed."""

    files: tuple[SourceFile, ...]
    judged: Judged


@dataclass
class _Findings:
    files: Mapping[str, Content]
    problems: list[str]
    headers: dict[str, dict[str, TensorInfo]] = field(default_factory=dict)
    indexes: dict[str, dict[str, str]] = field(default_factory=dict)

    def note(self, path: str, problem: str) -> None:
        self.problems.append(f"{path}: {problem}")


def inspect_folder(folder: Path, *, trust_remote_code: bool = False) -> Inspected:
    """Raises ModelRefusedError with everything that is wrong. Names beginning with a dot are left out."""
    problems: list[str] = []
    files = dict(sorted(_listed(folder, problems)))
    judged = judge(str(folder), files, problems, trust_remote_code=trust_remote_code)
    return Inspected(tuple(files.values()), judged)


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


def _listed(folder: Path, problems: list[str]) -> Iterator[tuple[str, SourceFile]]:
    if folder.is_symlink() or not folder.is_dir():
        raise ModelRefusedError(str(folder), ["not a folder"])
    for count, source in enumerate(walk(folder), 1):
        path = source.relative_to(folder).as_posix()
        if count > FILE_LIMIT:
            raise ModelRefusedError(str(folder), [f"more than {FILE_LIMIT} files"])
        status = source.lstat()
        if stat.S_ISLNK(status.st_mode):
            problems.append(f"{path}: a symbolic link; put the file itself there")
        elif not stat.S_ISREG(status.st_mode):
            problems.append(f"{path}: not a regular file")
        elif well_named(path, problems):
            yield path, SourceFile(path, source, status.st_size, status.st_mtime_ns)


def walk(folder: Path) -> Iterator[Path]:
    """Everything below that is not a folder, without following links; names beginning with a dot are left out."""
    for source in sorted(folder.iterdir()):
        if source.name.startswith("."):
            continue
        if source.is_dir() and not source.is_symlink():
            yield from walk(source)
        else:
            yield source


def well_named(path: str, problems: list[str]) -> bool:
    """Whether the path may stand in a manifest; if not, the problem is noted."""
    try:
        check_path(path)
    except BadManifestError as error:
        problems.append(str(error))
        return False
    return True


def is_pickle(file: Content) -> bool:
    """By its ending, or by what it begins with."""
    if PurePosixPath(file.path).suffix.lower() in PICKLES:
        return True
    if file.path.endswith((".safetensors", ".json", ".txt", ".md")):
        return False
    with file.open() as data:
        first = data.read(4)
    if first == b"PK\x03\x04":
        return _zips_pickle(file)
    return first[:1] == b"\x80" and first[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")


def _zips_pickle(file: Content) -> bool:
    try:
        with file.open() as data, zipfile.ZipFile(data) as archive:
            return any(name.endswith(".pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return True  # it says that it is an archive and cannot be looked into


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
