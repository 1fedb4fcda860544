"""The registry answers as the OpenAPI document has it, and takes what it says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel, TypeAdapter

from pilotlight.platform.api.openapi import Content, Described
from pilotlight.platform.api.registry_table import (
    REGISTRY,
    REGISTRY_PATH,
    CollectionIn,
    PartIn,
    PartsIn,
    SentPart,
    TokenIn,
)
from pilotlight.platform.registry.refs import ModelRef
from pilotlight.platform.registry.registry import Registry
from pilotlight.platform.registry.remote import RemoteStore
from pilotlight.runtime.models import blob_key
from pilotlight.runtime.stores import Part, Upload

pytestmark = pytest.mark.parametrize("any_store", ["folder"], indirect=True)
DATA = b"of a file"
DIGEST = hashlib.sha256(DATA).hexdigest()
FILE = blob_key(f"sha256:{DIGEST}")
HERE: dict[str, Any] = {"repository": "team-a/tiny"}
OBJECT, UPLOAD = "/objects/{key:path}", "/uploads/{key:path}"


class Asked:
    """Makes requests by rows of the table, and compares each answer with its row."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def __call__(self, method: str, path: str, body: BaseModel | bytes | None = None, **query: Any) -> Any:
        row = next(row for row in REGISTRY if (row.method, row.path) == (method, f"{REGISTRY_PATH}/{{bucket}}{path}"))
        row.query.model_validate(query)
        answer = self._client.request(
            method,
            row.path.replace("{bucket}", "models").replace("{key:path}", FILE),
            params=query,
            headers={"authorization": "Bearer root"},
            content=self._sent(row, body),
        )
        return _read(row, answer)

    def _sent(self, row: Described, body: BaseModel | bytes | None) -> bytes:
        assert body is not None or not row.takes or not row.needs_body, "the document wants a body"
        if isinstance(body, BaseModel):
            (taken,) = row.takes
            shape: Any = taken.shape
            TypeAdapter(shape).validate_python(body)
            return body.model_dump_json().encode()
        return body or b""


def _read(row: Described, answer: httpx.Response) -> Any:
    """The answer by the shape that the document has for its status."""
    told = row.answers.get(answer.status_code, Content(shape=row.error))
    if told is None:
        assert answer.content == b""
        return answer.headers
    assert answer.headers["content-type"].partition(";")[0] == told.media
    shape: Any = told.shape
    if shape is None:
        return answer.content
    lines = answer.text.splitlines() if told.media == "application/x-ndjson" else [answer.text]
    found = [TypeAdapter(shape).validate_json(line, extra="forbid") for line in lines]
    return found if told.media == "application/x-ndjson" else found[0]


@pytest.fixture
def asked(url: str) -> Iterator[Asked]:
    with httpx.Client(base_url=f"{url}/api/v1alpha1", trust_env=False) as client:
        yield Asked(client)


def test_an_upload_goes_as_the_document_says(asked: Asked) -> None:
    upload: Upload = asked("POST", UPLOAD, **HERE)
    assert [each.id for each in asked("GET", UPLOAD, **HERE).uploads] == [upload.id]
    one = {**HERE, "upload": upload.id}
    part: Part = asked("PUT", UPLOAD, DATA, **one, part=1)
    assert [each.number for each in asked("GET", UPLOAD, **one).parts] == [1]
    refused = asked("POST", UPLOAD, PartIn(size=len(DATA), sha256=DIGEST), **one, part=1)
    assert refused.error.code == "NotPresignedError"  # a folder signs nothing; the body was taken

    asked("POST", UPLOAD, PartsIn(parts=(SentPart(**asdict(part)),)), **one)

    assert asked("HEAD", OBJECT, **HERE)["content-length"] == str(len(DATA))
    assert asked("GET", OBJECT, **HERE) == DATA


def test_tags_and_manifests_are_listed_as_the_document_says(
    asked: Asked, open_remote: Callable[[str], RemoteStore], make_model: Callable[[], Path]
) -> None:
    Registry(open_remote("root"), "models").push(make_model(), ModelRef.parse("s3://models/team-a/tiny:v1"))
    assert len(asked("GET", "/objects", prefix="repositories/")) == 2


def test_the_others_answer_as_the_document_says(asked: Asked) -> None:
    asked("PUT", OBJECT, DATA, **HERE)
    assert asked("POST", OBJECT, **HERE).error.code == "NotPresignedError"
    upload: Upload = asked("POST", UPLOAD, **HERE)
    asked("DELETE", UPLOAD, **HERE, upload=upload.id)
    assert asked("POST", "/tokens", TokenIn(seconds=60), **HERE).token
    assert asked("POST", "/collection", CollectionIn(dryRun=True)).complete
    assert asked("DELETE", OBJECT, **HERE).error.code == "NotAllowedError"  # it is as it should be
