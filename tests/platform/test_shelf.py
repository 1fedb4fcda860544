"""The stores behind the shelf are kept open, but not all that anybody names."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotlight.platform.shelf import OPEN_STORES, Shelf


def test_a_store_stays_open_until_many_others_were_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    shelf = Shelf("s3", tmp_path)
    first = shelf.store("bucket-0")
    assert shelf.store("bucket-0") is first
    for number in range(1, OPEN_STORES + 1):
        shelf.store(f"bucket-{number}")
    assert shelf.store("bucket-0") is not first
