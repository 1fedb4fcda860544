"""Push, pull and what lies between, in every kind of store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from pilotlight.platform.registry.errors import BadReferenceError, ModelNotFoundError, ModelRefusedError
from pilotlight.platform.registry.push import PART_BYTES, Progress
from pilotlight.platform.registry.refs import ModelRef
from pilotlight.platform.registry.registry import Registry
from pilotlight.runtime.models import ModelManifest, blob_key
from pilotlight.runtime.stores import ObjectCorruptError, ObjectInfo, ObjectStore, Part, Upload, read_small

REF = ModelRef.parse("s3://models/team-a/tiny:v1")
MakeModel = Callable[..., Path]
Snapshot = Callable[[Path], dict[str, bytes]]


class Watched:
    """A store that counts what is written, and can break at a given write."""

    def __init__(self, inner: ObjectStore, breaks_at: int = 10**9) -> None:
        self._inner = inner
        self.written: list[str] = []
        self._breaks_at = breaks_at

    def _write(self, key: str) -> None:
        if len(self.written) >= self._breaks_at:
            raise ConnectionAbortedError(key)
        self.written.append(key)

    @property
    def address(self) -> str:
        return self._inner.address

    def stat(self, key: str) -> ObjectInfo:
        return self._inner.stat(key)

    def read(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        return self._inner.read(key, start, length)

    def put(self, key: str, data: bytes) -> None:
        self._write(key)
        self._inner.put(key, data)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return self._inner.list(prefix)

    def delete(self, key: str) -> None:
        self._inner.delete(key)

    def move(self, source: str, target: str) -> None:
        self._inner.move(source, target)

    def begin_upload(self, key: str) -> Upload:
        return self._inner.begin_upload(key)

    def uploads(self, key: str = "") -> Iterator[Upload]:
        return self._inner.uploads(key)

    def parts(self, upload: Upload) -> tuple[Part, ...]:
        return self._inner.parts(upload)

    def put_part(self, upload: Upload, number: int, data: bytes) -> Part:
        self._write(f"{upload.key}#{number}")
        return self._inner.put_part(upload, number, data)

    def complete_upload(self, upload: Upload, parts: Sequence[Part]) -> None:
        self._inner.complete_upload(upload, parts)

    def abort_upload(self, upload: Upload) -> None:
        self._inner.abort_upload(upload)


@pytest.fixture
def registry(any_store: ObjectStore) -> Registry:
    return Registry(any_store, "models")


def test_what_is_pulled_is_what_was_pushed(
    registry: Registry, make_model: MakeModel, snapshot: Snapshot, tmp_path: Path
) -> None:
    folder = make_model(files={"1_Pooling/config.json": b"{}", ".gitattributes": b"*"})
    pushed = registry.push(folder, REF)
    found = registry.pull(REF, tmp_path / "out")
    assert found.digest == pushed.digest
    (folder / ".gitattributes").unlink()
    assert snapshot(tmp_path / "out") == snapshot(folder)


def test_the_manifest_tells_tensors_config_and_files(registry: Registry, make_model: MakeModel) -> None:
    manifest = registry.push(make_model(), REF)
    assert registry.resolve(REF).manifest == manifest
    assert manifest.tensors["head"].shape == (4,)
    assert manifest.tensors["head"].file == "model.safetensors"
    assert manifest.config["hidden_size"] == 4
    assert [file.path for file in manifest.files] == ["config.json", "model.safetensors", "tokenizer.json"]


def test_a_digest_is_enough_to_fetch_a_model(registry: Registry, make_model: MakeModel) -> None:
    digest = registry.push(make_model(), REF).digest
    by_digest = registry.resolve(ModelRef("models", REF.repository, digest=digest))
    assert by_digest.digest == digest
    stored = ModelManifest.from_json(read_small(registry.store, blob_key(digest), 10**6))
    assert stored.digest == digest


def test_the_same_bytes_are_uploaded_once(any_store: ObjectStore, make_model: MakeModel) -> None:
    store = Watched(any_store)
    registry = Registry(store, "models")
    registry.push(make_model(), REF)
    store.written.clear()
    changed = make_model("other", {"tokenizer.json": b'{"new":1}'})
    registry.push(changed, ModelRef.parse("s3://models/team-a/other:v1"))
    blobs = [key for key in store.written if key.startswith("blobs/")]
    assert len(blobs) == 2  # the new tokenizer and the new manifest


def test_a_broken_push_is_not_seen_and_the_next_one_sends_only_the_rest(
    any_store: ObjectStore,
    make_model: MakeModel,
    snapshot: Snapshot,
    tmp_path: Path,
    weights: Callable[[dict[str, bytes]], bytes],
) -> None:
    big = weights({"w": bytes(range(256)) * (3 * PART_BYTES // 256)})
    folder = make_model(files={"model.safetensors": big})
    broken = Watched(any_store, breaks_at=5)  # the pin, two small files, two parts of four
    with pytest.raises(ConnectionAbortedError):
        Registry(broken, "models").push(folder, REF)
    assert Registry(any_store, "models").list() == []
    again = Watched(any_store)
    Registry(again, "models").push(folder, REF)
    assert len([key for key in again.written if "#" in key]) == 2
    assert not {key for key in broken.written if key.startswith("blobs/")} & set(again.written)
    Registry(any_store, "models").pull(REF, tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(folder)
    assert list(any_store.uploads()) == []


def test_the_tag_is_written_last(any_store: ObjectStore, make_model: MakeModel) -> None:
    store = Watched(any_store)
    Registry(store, "models").push(make_model(), REF)
    assert store.written[-1] == "repositories/team-a/tiny/tags/v1"


def test_progress_adds_up_to_all_bytes(registry: Registry, make_model: MakeModel) -> None:
    seen: list[Progress] = []
    size = registry.push(make_model(), REF, seen.append).size
    for stage in ("hash", "upload"):
        steps = [step for step in seen if step.stage == stage]
        assert [step.done for step in steps] == sorted(step.done for step in steps)
        assert steps[-1].done == steps[-1].total == size


def test_a_tag_moves_and_the_digest_stays(registry: Registry, make_model: MakeModel) -> None:
    first = registry.push(make_model(), REF)
    second = registry.push(make_model("second", {"tokenizer.json": b"[]"}), REF)
    assert registry.resolve(REF).digest == second.digest != first.digest
    assert registry.resolve(ModelRef("models", REF.repository, digest=first.digest)).digest == first.digest
    registry.tag(ModelRef("models", REF.repository, digest=first.digest), "stable")
    entries = {str(entry.ref): entry.digest for entry in registry.list()}
    assert entries == {"s3://models/team-a/tiny:stable": first.digest, "s3://models/team-a/tiny:v1": second.digest}


def test_what_is_not_there_is_named(registry: Registry, make_model: MakeModel) -> None:
    with pytest.raises(ModelNotFoundError, match="s3://models/team-a/tiny:v1"):
        registry.resolve(REF)
    registry.push(make_model(), REF)
    with pytest.raises(ModelNotFoundError):
        registry.resolve(ModelRef.parse("s3://models/team-a/tiny:v2"))
    registry.untag(REF)
    with pytest.raises(ModelNotFoundError):
        registry.untag(REF)
    with pytest.raises(BadReferenceError, match="bucket"):
        registry.resolve(ModelRef.parse("s3://elsewhere/team-a/tiny:v1"))


def test_a_corrupted_file_is_refused_by_its_digest(registry: Registry, make_model: MakeModel, tmp_path: Path) -> None:
    manifest = registry.push(make_model(), REF)
    assert registry.verify(REF).problems == ()
    file = manifest.files[1]
    _corrupt(registry.store, file.digest)
    with pytest.raises(ObjectCorruptError, match=r"model\.safetensors") as caught:
        registry.pull(REF, tmp_path / "out")
    assert caught.value.expected == file.digest
    assert not (tmp_path / "out/model.safetensors").exists()
    (problem,) = registry.verify(REF).problems
    assert "model.safetensors" in problem


def _corrupt(store: ObjectStore, digest: str) -> None:
    """Turn a bit of the object, whose size stays."""
    data = bytearray(read_small(store, blob_key(digest), 10**6))
    data[-1] ^= 1
    store.put(blob_key(digest), bytes(data))


def test_what_is_corrupt_is_removed_by_a_repair_and_brought_anew_by_a_push(
    registry: Registry, make_model: MakeModel
) -> None:
    manifest = registry.push(make_model(), REF)
    _corrupt(registry.store, manifest.files[1].digest)
    _corrupt(registry.store, manifest.digest)
    first, second = registry.verify(REF, repair=True).problems
    assert "model.safetensors is corrupt" in first
    assert first.endswith("it was removed")
    assert "the model's manifest is corrupt" in second
    assert len(registry.verify(REF).problems) == 2
    registry.push(make_model(), REF)
    assert registry.verify(REF).problems == ()


def test_a_file_of_another_size_is_found_by_verify(registry: Registry, make_model: MakeModel) -> None:
    manifest = registry.push(make_model(), REF)
    registry.store.put(blob_key(manifest.files[2].digest), b"{} ")
    (problem,) = registry.verify(REF).problems
    assert problem == "tokenizer.json has 3 bytes in the registry, expected 2"


def test_a_missing_file_is_found_by_verify(registry: Registry, make_model: MakeModel) -> None:
    manifest = registry.push(make_model(), REF)
    registry.store.delete(blob_key(manifest.files[0].digest))
    (problem,) = registry.verify(REF).problems
    assert "config.json" in problem


def test_nothing_is_uploaded_of_a_model_that_is_refused(registry: Registry, make_model: MakeModel) -> None:
    with pytest.raises(ModelRefusedError, match="pickled"):
        registry.push(make_model(files={"pytorch_model.bin": b"x"}), REF)
    assert list(registry.store.list()) == []


def test_a_second_pull_keeps_what_is_right_and_mends_what_is_not(
    registry: Registry, make_model: MakeModel, snapshot: Snapshot, tmp_path: Path
) -> None:
    folder = make_model()
    registry.push(folder, REF)
    registry.pull(REF, tmp_path / "out")
    kept = (tmp_path / "out/config.json").stat().st_ino
    (tmp_path / "out/tokenizer.json").write_bytes(b"xx")
    registry.pull(REF, tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(folder)
    assert (tmp_path / "out/config.json").stat().st_ino == kept
