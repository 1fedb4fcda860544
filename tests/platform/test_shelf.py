"""What the shelf knows of the buckets of a store, and how many it keeps open."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from pilotlight.activator.values import Caller
from pilotlight.platform.control.errors import RefusedError, UnavailableError
from pilotlight.platform.manifest import RegistryReference
from pilotlight.platform.registry.refs import ModelRef
from pilotlight.platform.registry.registry import Registry
from pilotlight.platform.shelf import OPEN_STORES, Shelf
from pilotlight.runtime.stores.s3 import S3Options, S3Store

ADMIN = Caller(key="k", namespaces=None, admin=True)


@pytest.fixture
def shelf(s3_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """On a server where nobody has made the bucket `models`."""
    for key, value in s3_server.environment.items():
        monkeypatch.setenv(key, value)
    return Shelf("s3", tmp_path / "tokenizers")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    header = json.dumps({"embed": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures":["LlamaForCausalLM"],"hidden_size":4}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"abcd")
    return folder


def fresh() -> str:
    return f"bucket-{uuid.uuid4().hex[:12]}"


def test_buckets_that_functions_name_are_listed_and_missing_ones_left_out(shelf: Shelf, model: Path) -> None:
    bucket = fresh()
    store = S3Store(bucket, S3Options.from_environment())
    store.ensure_bucket()
    Registry(store, bucket).push(model, ModelRef(bucket, "chat", "v1"))

    entries = shelf.entries([f"s3://{bucket}/chat:v1", f"s3://{fresh()}/other:v1", "hf://org/name"])

    assert [str(entry.ref) for entry in entries] == [f"s3://{bucket}/chat:v1"]


def test_a_store_without_any_bucket_says_how_to_make_one(shelf: Shelf) -> None:
    with pytest.raises(UnavailableError, match=r"no bucket 'models'.*aws s3 mb s3://models"):
        shelf.entries([])


def test_a_model_of_a_missing_bucket_is_refused_with_how_to_make_it(shelf: Shelf) -> None:
    bucket = fresh()

    with pytest.raises(RefusedError, match=rf"no bucket '{bucket}'.*aws s3 mb s3://{bucket}"):
        shelf.find(RegistryReference(bucket, "chat", None, "v1", None), ADMIN)


def test_a_missing_model_of_a_bucket_that_is_there_is_told_as_such(shelf: Shelf) -> None:
    bucket = fresh()
    S3Store(bucket, S3Options.from_environment()).ensure_bucket()

    with pytest.raises(RefusedError, match="is not in the registry"):
        shelf.find(RegistryReference(bucket, "chat", None, "v1", None), ADMIN)


def test_a_store_stays_open_until_many_others_were_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    shelf = Shelf("s3", tmp_path)
    first = shelf.store("bucket-0")
    assert shelf.store("bucket-0") is first
    for number in range(1, OPEN_STORES + 1):
        shelf.store(f"bucket-{number}")
    assert shelf.store("bucket-0") is not first


def test_a_bucket_that_is_not_allowed_is_refused_with_the_setting(shelf: Shelf, tmp_path: Path) -> None:
    bucket = fresh()
    bound = Shelf("s3", tmp_path / "tokenizers", [bucket])

    assert bound.address(bucket) == shelf.address(bucket)
    with pytest.raises(RefusedError, match=r"'other' is not for models: PILOTLIGHT_BUCKETS"):
        bound.address("other")
    with pytest.raises(RefusedError, match="PILOTLIGHT_BUCKETS"):
        bound.find(RegistryReference("other", "chat", None, "v1", None), ADMIN)


@pytest.mark.usefixtures("shelf")
def test_the_allowed_buckets_are_those_that_are_listed(model: Path, tmp_path: Path) -> None:
    buckets = [fresh(), fresh(), fresh()]
    for bucket in buckets[:2]:
        store = S3Store(bucket, S3Options.from_environment())
        store.ensure_bucket()
        Registry(store, bucket).push(model, ModelRef(bucket, "chat", "v1"))
    bound = Shelf("s3", tmp_path / "tokenizers", buckets[1:])

    assert [entry.ref.bucket for entry in bound.entries([f"s3://{buckets[0]}/chat:v1"])] == [buckets[1]]
