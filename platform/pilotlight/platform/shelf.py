"""From a model reference to a digest, its facts and its tokenizer: the platform's use of the registry."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pilotlight.platform.control.errors import ForbiddenError, ModelError, RefusedError, UnavailableError
from pilotlight.platform.manifest import HubReference, ModelReference, RegistryReference
from pilotlight.platform.manifest.references import parse_reference
from pilotlight.platform.registry.errors import RegistryError
from pilotlight.platform.registry.refs import ModelRef
from pilotlight.platform.registry.registry import ModelEntry, Registry
from pilotlight.platform.registry.rights import Caller, may_read
from pilotlight.recommender import Tensor
from pilotlight.runtime.models import BadManifestError, ModelManifest, blob_key, load_json, sha256
from pilotlight.runtime.stores import ObjectNotFoundError, ObjectStore, StoreError, open_store, read_small

SMALL_FILES = frozenset(
    {
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.jinja",
        "chat_template.json",
        "config.json",
        "generation_config.json",
    }
)
SMALL_BYTES = 64 * 2**20
"""Largest tokenizer that is fetched: those of 256,000 tokens have about 35 MiB."""
LIMIT_FILES = frozenset({"sentence_bert_config.json", "sentence_roberta_config.json"})
LIMIT_BYTES = 2**16
LOCAL_BUCKET = "models"
OPEN_STORES = 16
"""Stores kept open: callers name buckets, and a client of each takes some MiB."""


@dataclass(frozen=True)
class Found:
    """A model as its reference stood."""

    reference: str
    store: str
    manifest: ModelManifest

    @property
    def digest(self) -> str:
        return self.manifest.digest

    def tensors(self) -> dict[str, Tensor]:
        """For the recommender."""
        known = self.manifest.tensors
        return {name: Tensor(tensor.dtype, tensor.shape, tensor.bytes) for name, tensor in known.items()}


class Shelf:
    """Resolves references; blocking, so that it is called in a thread."""

    def __init__(self, registry: str, tokenizers: Path, buckets: Collection[str] = ()) -> None:
        """`registry`: `file:///folder` whose subfolder `models` is the one bucket, or `s3`.

        `buckets` are those of S3 that may be named; without any, every one that the credentials reach.
        """
        self._registry = registry.rstrip("/")
        self._tokenizers = tokenizers
        self._allowed = frozenset(buckets)
        self._open = lru_cache(maxsize=OPEN_STORES)(open_store)

    def entries(self, used: Iterable[str]) -> list[ModelEntry]:
        """The tags of every bucket that may be named, else of `models` and those that the references name.

        Buckets that are not there are left out.

        Raises UnavailableError when none is, StoreError.
        """
        found: list[ModelEntry] = []
        missing: list[str] = []
        buckets = self._buckets(used)
        for bucket in buckets:
            try:
                found += Registry(self.store(bucket), bucket).list()
            except ObjectNotFoundError:
                missing.append(bucket)
        if len(missing) == len(buckets):
            raise UnavailableError(_no_bucket(missing[0]))
        return found

    def _buckets(self, used: Iterable[str]) -> tuple[str, ...]:
        if self._registry != "s3":
            return (LOCAL_BUCKET,)
        if self._allowed:
            return tuple(sorted(self._allowed))
        named = (parse_reference(reference) for reference in used)
        return tuple(sorted({LOCAL_BUCKET, *(ref.bucket for ref in named if isinstance(ref, RegistryReference))}))

    def address(self, bucket: str) -> str:
        """The store of a bucket. Raises RefusedError."""
        if self._registry == "s3":
            if self._allowed and bucket not in self._allowed:
                raise RefusedError(
                    f"bucket {bucket!r} is not for models: PILOTLIGHT_BUCKETS of the platform does not name it"
                )
            return f"s3://{bucket}"
        if bucket != LOCAL_BUCKET:
            raise RefusedError(
                f"there is no bucket {bucket!r}: this platform keeps models in a folder, as s3://{LOCAL_BUCKET}/NAME:TAG;"
                " for others, set AWS_ENDPOINT_URL_S3 before `pilotlight up`"
            )
        return f"{self._registry}/{LOCAL_BUCKET}"

    def store(self, bucket: str) -> ObjectStore:
        return self._open(self.address(bucket))

    def find(self, reference: ModelReference, caller: Caller, kind: str = "model") -> Found:
        """Raises RefusedError, ForbiddenError, UnavailableError."""
        if isinstance(reference, HubReference):
            imported = f"s3://{LOCAL_BUCKET}/{reference.name.lower()}:v1"
            raise ModelError(
                f"{reference} is not in the registry yet: `pilotlight models import {reference} {imported}`"
                f" brings it there, then name it as {imported}"
            )
        if not may_read(caller, reference.repository):
            raise ForbiddenError(f"this key may not read {reference}")
        manifest = self._resolve(reference)
        if manifest.kind != kind:
            raise ModelError(f"{reference} is of kind {manifest.kind}, expected {kind}")
        return Found(str(reference), self.address(reference.bucket), manifest)

    def config(self, found: Found) -> Mapping[str, object]:
        """The model's `config.json`, with sentence-transformers' shorter limit of the input where there is one."""
        file = next((file for file in found.manifest.files if file.path in LIMIT_FILES), None)
        if file is None:
            return found.manifest.config
        try:
            content = load_json(self._read(found, file.path, file.digest, LIMIT_BYTES), LIMIT_BYTES)
        except BadManifestError as error:
            raise ModelError(f"{file.path} of {found.reference} cannot be read: {error}") from error
        length = content.get("max_seq_length") if isinstance(content, dict) else None
        return {**found.manifest.config, "max_seq_length": length} if isinstance(length, int) else found.manifest.config

    def tokenizer(self, found: Found) -> str:
        """A folder with the model's small files; empty when it has no `tokenizer.json`."""
        files = {file.path: file for file in found.manifest.files if file.path in SMALL_FILES}
        if "tokenizer.json" not in files or any(file.size > SMALL_BYTES for file in files.values()):
            return ""
        folder = self._tokenizers / found.digest.removeprefix("sha256:")
        if not folder.is_dir():
            self._fetch({path: file.digest for path, file in files.items()}, found, folder)
        return str(folder)

    def _resolve(self, reference: RegistryReference) -> ModelManifest:
        ref = ModelRef(reference.bucket, reference.repository, reference.tag or "", reference.digest or "")
        try:
            return Registry(self.store(reference.bucket), reference.bucket).resolve(ref).manifest
        except RegistryError as error:
            if self._lacks(reference.bucket):
                raise ModelError(f"{reference} is not there: {_no_bucket(reference.bucket)}") from error
            raise ModelError(f"{error}; `pilotlight models list` shows what there is") from error
        except (StoreError, ValueError) as error:
            raise UnavailableError(f"the model store does not give {reference}: {error}") from error

    def _lacks(self, bucket: str) -> bool:
        """Told by a list: of a single object, not all stores say that it is its bucket that is missing."""
        try:
            next(iter(self.store(bucket).list("repositories/")), None)
        except ObjectNotFoundError:
            return True
        except StoreError:
            return False
        return False

    def _fetch(self, files: Mapping[str, str], found: Found, folder: Path) -> None:
        """All of them or none."""
        self._tokenizers.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=self._tokenizers))
        try:
            for path, digest in files.items():
                (partial / path).write_bytes(self._read(found, path, digest, SMALL_BYTES))
            partial.replace(folder)
        except OSError:
            if not folder.is_dir():  # else another apply of the same model was faster
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _read(self, found: Found, path: str, digest: str, limit: int) -> bytes:
        """One small file, with its digest checked. Raises UnavailableError."""
        try:
            data = read_small(self._open(found.store), blob_key(digest), limit)
        except StoreError as error:
            raise UnavailableError(f"the model store does not give {path} of {found.reference}: {error}") from error
        if sha256(data) != digest:
            raise UnavailableError(
                f"{path} of {found.reference} is corrupt in the registry; `pilotlight models verify --repair"
                f" {found.reference}` removes it, then push the model again"
            )
        return data


def _no_bucket(bucket: str) -> str:
    return (
        f"the model store has no bucket {bucket!r}; Pilotlight makes none, so create it with the store's own tool, as"
        f" `aws s3 mb s3://{bucket}` with the same AWS_ENDPOINT_URL_S3 and credentials"
    )
