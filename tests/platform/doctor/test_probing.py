"""What the doctor's pod says of storage and database; real servers."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pilotlight.platform.doctor import probing
from pilotlight.runtime.stores.s3 import S3Options, S3Store

if TYPE_CHECKING:
    from tests.conftest import S3Server


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def run(environment: Mapping[str, str]) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "pilotlight.platform.doctor.probing", "doctor-bucket"],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    said: dict[str, str] = json.loads(done.stdout)
    return said


def test_what_is_there_is_reached(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    S3Store("doctor-bucket", S3Options.from_environment()).ensure_bucket()

    said = run({**s3_server.environment, "PILOTLIGHT_DATABASE_URL": f"sqlite:///{tmp_path}/any.db"})
    assert said == {"s3": "", "database": ""}


def test_wrong_credentials_are_told_without_them(s3_server: S3Server, tmp_path: Path) -> None:
    environment = {**s3_server.environment, "AWS_SECRET_ACCESS_KEY": "some-wrong-secret"}
    said = run({**environment, "PILOTLIGHT_DATABASE_URL": f"sqlite:///{tmp_path}/any.db"})
    assert said["s3"]
    assert "some-wrong-secret" not in json.dumps(said)


def test_a_database_that_is_away_is_told_without_its_password(closed_port: int) -> None:
    said = probing.database(f"postgresql://someone:some-secret@127.0.0.1:{closed_port}/any")
    assert "refused" in said
    assert "some-secret" not in said


def test_an_address_that_is_none_is_told_without_it() -> None:
    said = probing.database("mysql://someone:some-secret@host/any")
    assert said
    assert "some-secret" not in said
