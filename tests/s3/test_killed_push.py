"""A push that is killed: nothing of it is seen, and the next one sends only what is missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilotlight.platform.registry.push import PART_BYTES
from pilotlight.platform.registry.refs import ModelRef
from pilotlight.platform.registry.registry import Registry
from pilotlight.runtime.stores.s3 import S3Options, S3Store

REF = ModelRef.parse("s3://models/big:v1")
PART = "partNumber"
PARTS = 8
PASSED = 5
"""Parts that reach the store before the push is killed; the others hang on their way."""
PUSH = """
import sys
from pathlib import Path
from pilotlight.platform.registry.refs import ModelRef
from pilotlight.platform.registry.registry import Registry
from pilotlight.runtime.stores import open_store
Registry(open_store(sys.argv[1]), "models").push(Path(sys.argv[2]), ModelRef.parse("s3://models/big:v1"))
"""


def parts(requests: list[tuple[str, str]]) -> list[str]:
    """Paths of the parts that were put."""
    return [path for method, path in list(requests) if method == "PUT" and PART in path]


@pytest.mark.parametrize("server_name", ["s3_server", "minio_server"])
def test_a_killed_push_is_not_seen_and_goes_on_where_it_was(
    request: pytest.FixtureRequest,
    server_name: str,
    chaos_proxy: Callable[[str], Any],
    make_model: Callable[..., Path],
    until: Callable[[Callable[[], bool], str], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    server = request.getfixturevalue(server_name)
    folder = make_model(PART_BYTES * (PARTS - 1) + 1000)
    for key, value in server.environment.items():
        monkeypatch.setenv(key, value)
    bucket = f"kill-{uuid.uuid4().hex[:12]}"
    direct = S3Store(bucket, S3Options.from_environment())
    direct.ensure_bucket()

    slow = chaos_proxy(server.endpoint)
    slow.only, slow.fine, slow.stalls = PART, PASSED, PARTS
    environment = {**os.environ, "AWS_ENDPOINT_URL_S3": slow.url}
    push = subprocess.Popen([sys.executable, "-c", PUSH, f"s3://{bucket}", str(folder)], env=environment)
    until(lambda: len(parts(slow.passed)) == PASSED, "some parts in the store")
    os.kill(push.pid, signal.SIGKILL)
    assert push.wait() == -signal.SIGKILL
    slow.release.set()
    assert Registry(direct, "models").list() == []

    counting = chaos_proxy(server.endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", counting.url)
    registry = Registry(S3Store(bucket, S3Options.from_environment()), "models")
    registry.push(folder, REF)
    assert len(parts(counting.requests)) == PARTS - PASSED
    assert registry.verify(REF).problems == ()
    assert registry.pull(REF, tmp_path / "out").manifest.size > PART_BYTES
