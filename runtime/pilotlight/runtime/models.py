"""A model: content-addressed files under the digest of a canonical manifest."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Literal, cast

from pilotlight.runtime.tensors import TensorInfo

MEDIA_TYPE = "application/vnd.pilotlight.model.v1+json"
MANIFEST_LIMIT = 32 * 2**20
"""Largest manifest, bytes: room for 200,000 tensors."""
FILE_LIMIT = 10_000
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SEGMENT = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._+=@ -]{0,253}[A-Za-z0-9._+=@-])?")
_KINDS = ("model", "adapter")


class BadManifestError(ValueError):
    """A model manifest that cannot be trusted; the message says where and why."""


@dataclass(frozen=True)
class ModelFile:
    path: str  # relative, '/' between segments
    size: int  # bytes
    digest: str  # "sha256:..."


@dataclass(frozen=True)
class ModelManifest:
    """What `from_json` accepted or a push made; its digest names the model everywhere."""

    kind: Literal["model", "adapter"]
    files: tuple[ModelFile, ...]
    tensors: Mapping[str, TensorInfo] = field(default_factory=dict)
    config: Mapping[str, object] = field(default_factory=dict)
    """config.json (adapter_config.json of an adapter), so that sizing needs no file."""
    remote_code: bool = False
    """The model brings Python code that the engine would run; only with the function's consent."""

    def __post_init__(self) -> None:
        check_files(self.files)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @cached_property
    def encoded(self) -> bytes:
        return canonical(_as_dict(self))

    @cached_property
    def digest(self) -> str:
        return sha256(self.encoded)

    def to_json(self) -> bytes:
        """Canonical: sorted keys, no spaces, UTF-8; the digest is of these bytes."""
        return self.encoded

    @classmethod
    def from_json(cls, data: bytes) -> ModelManifest:
        """Raises BadManifestError on anything but the bytes that `to_json` gives."""
        manifest = _parse(data)
        if manifest.encoded != data:
            raise BadManifestError("model manifest is not in canonical form")
        return manifest


def sha256(data: bytes) -> str:
    """`sha256:<hex>` of the bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def check_digest(digest: str) -> str:
    """The digest itself. Raises BadManifestError."""
    if not _DIGEST.fullmatch(digest):
        raise BadManifestError(f"digest {digest[:80]!r} is not valid: expected sha256: and 64 hexadecimal digits")
    return digest


def blob_key(digest: str) -> str:
    """The key of a file, or of a manifest, in the store. Raises BadManifestError."""
    return f"blobs/sha256/{check_digest(digest).removeprefix('sha256:')}"


def canonical(value: object) -> bytes:
    """Raises BadManifestError for what JSON cannot say."""
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadManifestError(f"model manifest cannot be written as JSON: {error}") from None


def check_path(path: str) -> str:
    """The path itself, if it stays inside the model's folder on every system. Raises BadManifestError."""
    segments = path.split("/")
    if len(path) > 512 or len(segments) > 8 or not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise BadManifestError(
            f"file name {path[:100]!r} is not valid: expected a relative path of letters, digits and . _ + = @ -,"
            " at most 8 levels deep, no segment beginning with a dot"
        )
    return path


def check_files(files: Sequence[ModelFile]) -> None:
    """Paths safe, sorted and distinct (letter case aside, as on some file systems), none a folder of another."""
    if not 0 < len(files) <= FILE_LIMIT:
        raise BadManifestError(f"a model has 1 to {FILE_LIMIT} files, this one {len(files)}")
    for file in files:
        check_path(file.path)
        check_digest(file.digest)
        if not 0 <= file.size < 2**50:
            raise BadManifestError(f"file {file.path!r} has an impossible size: {file.size}")
    if any(before.path >= after.path for before, after in pairwise(files)):
        raise BadManifestError("files are not sorted by path, or one is named twice")
    folded = {file.path.casefold() for file in files}
    parents = {"/".join(path.split("/")[:depth]) for path in folded for depth in range(1, path.count("/") + 1)}
    if len(folded) != len(files) or folded & parents:
        raise BadManifestError("two files would take the same place")


def _as_dict(manifest: ModelManifest) -> dict[str, object]:
    return {
        "mediaType": MEDIA_TYPE,
        "kind": manifest.kind,
        "remoteCode": manifest.remote_code,
        "files": [{"path": file.path, "size": file.size, "digest": file.digest} for file in manifest.files],
        "tensors": {
            name: [tensor.dtype, list(tensor.shape), tensor.bytes, tensor.file, tensor.offset]
            for name, tensor in manifest.tensors.items()
        },
        "config": manifest.config,
    }


def _parse(data: bytes) -> ModelManifest:
    raw = _object(load_json(data, MANIFEST_LIMIT), "manifest", _FIELDS)
    if raw["mediaType"] != MEDIA_TYPE:
        raise BadManifestError(f"media type is {str(raw['mediaType'])[:80]!r}, expected {MEDIA_TYPE!r}")
    if raw["kind"] not in _KINDS:
        raise BadManifestError(f"kind is {str(raw['kind'])[:80]!r}, expected model or adapter")
    files = tuple(_file(item) for item in cast("list[object]", _typed(raw["files"], list, "files")))
    tensors = cast("dict[str, object]", _typed(raw["tensors"], dict, "tensors"))
    return ModelManifest(
        kind=cast("Literal['model', 'adapter']", raw["kind"]),
        files=files,
        tensors=_tensors(tensors, {file.path: file.size for file in files}),
        config=cast("dict[str, object]", _typed(raw["config"], dict, "config")),
        remote_code=bool(_typed(raw["remoteCode"], bool, "remoteCode")),
    )


_FIELDS = frozenset({"mediaType", "kind", "remoteCode", "files", "tensors", "config"})


def load_json(data: bytes, limit: int) -> object:
    """JSON of at most `limit` bytes without duplicate keys. Raises BadManifestError."""
    if len(data) > limit:
        raise BadManifestError(f"{len(data)} bytes of JSON are more than {limit}")
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except BadManifestError:
        raise
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or a number of thousands of digits
        raise BadManifestError(f"not JSON: {error}") from None


def _unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadManifestError("a key stands twice in one JSON object")
    return found


def _typed(value: object, kind: type, where: str) -> object:
    if type(value) is not kind:
        raise BadManifestError(f"{where} is not of type {kind.__name__}")
    return value


def _object(value: object, where: str, fields: frozenset[str]) -> dict[str, object]:
    found = cast("dict[str, object]", _typed(value, dict, where))
    if found.keys() != fields:
        odd = sorted(found.keys() ^ fields)[:5]
        raise BadManifestError(f"{where} has missing or unknown fields: {', '.join(key[:40] for key in odd)}")
    return found


def _file(value: object) -> ModelFile:
    raw = _object(value, "file", frozenset({"path", "size", "digest"}))
    return ModelFile(
        path=str(_typed(raw["path"], str, "path")),
        size=cast("int", _typed(raw["size"], int, "size")),
        digest=str(_typed(raw["digest"], str, "digest")),
    )


def _tensors(raw: Mapping[str, object], sizes: Mapping[str, int]) -> dict[str, TensorInfo]:
    return {name: _tensor(name, value, sizes) for name, value in raw.items()}


def _tensor(name: str, value: object, sizes: Mapping[str, int]) -> TensorInfo:
    where = f"tensor {name[:100]!r}"
    fields = cast("list[object]", _typed(value, list, where))
    if len(fields) != 5:
        raise BadManifestError(f"{where} needs dtype, shape, bytes, file and offset")
    dtype, shape, size, file, offset = fields
    dimensions = cast("list[object]", _typed(shape, list, f"shape of {where}"))
    tensor = TensorInfo(
        dtype=str(_typed(dtype, str, f"dtype of {where}")),
        shape=tuple(cast("int", _typed(item, int, f"shape of {where}")) for item in dimensions),
        bytes=cast("int", _typed(size, int, f"bytes of {where}")),
        file=str(_typed(file, str, f"file of {where}")),
        offset=cast("int", _typed(offset, int, f"offset of {where}")),
    )
    inside = min(tensor.bytes, tensor.offset, *tensor.shape, 0) == 0
    if not inside or tensor.offset + tensor.bytes > sizes.get(tensor.file, -1):
        raise BadManifestError(f"{where} lies outside its file {tensor.file[:100]!r}")
    return tensor
