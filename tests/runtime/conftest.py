"""What tests of the runtime share: models in a folder store, and specs that use them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Literal

import pytest

from pilotlight.runtime import client, guard
from pilotlight.runtime.models import ModelFile, ModelManifest, blob_key
from pilotlight.runtime.spec import EngineSpec, ReplicaSpec, ReplicaState, ReplicaStatus
from pilotlight.runtime.stores.folder import FolderStore

_SECONDS = 280.0
"""Longest wait for a replica: a start of real vLLM on a busy machine with two cores."""


class Registry:
    """A folder store that models are put into without a push."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = FolderStore(folder)

    def put(self, files: Mapping[str, bytes | Path], kind: Literal["model", "adapter"] = "model") -> ModelManifest:
        rows = []
        for path, content in sorted(files.items()):
            data = content if isinstance(content, bytes) else content.read_bytes()
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            target = self.blob(digest)
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                target.write_bytes(data)
            else:
                shutil.copyfile(content, target)
            rows.append(ModelFile(path, len(data), digest))
        manifest = ModelManifest(kind, tuple(rows))
        self.blob(manifest.digest).write_bytes(manifest.to_json())
        return manifest

    def blob(self, digest: str) -> Path:
        return self.folder / blob_key(digest)


class Supervised:
    """One replica folder and the supervisor in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pid = 0

    def spec(self, **options: object) -> ReplicaSpec:
        return ReplicaSpec(
            replica="chat-1",
            function="team-a/chat",
            revision="rev-1",
            task="generate",
            store="file:///nowhere",
            model="",
            served_names=("chat",),
            engine=EngineSpec("simulated", {"simulated_time_scale": 1.0, **options}, key="engine-secret"),
            cache_folder=str(self.folder / "cache"),
            created_at=time.time(),
        )

    def launch(self, spec: ReplicaSpec) -> None:
        self.pid = client.launch(self.folder, spec)

    async def reach(self, *states: ReplicaState) -> ReplicaStatus:
        """Wait for one of the states; the status then."""
        async with asyncio.timeout(_SECONDS):
            while True:
                found = await client.status(self.folder)
                if found is not None and found.state in states:
                    return found
                assert client.alive(self.folder, self.pid), self.log()
                await asyncio.sleep(0.02)

    async def until(self, condition: Callable[[ReplicaStatus], bool]) -> None:
        """Wait until what it says of itself is so."""
        async with asyncio.timeout(_SECONDS):
            while (found := await client.status(self.folder)) is None or not condition(found):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def ended(self) -> ReplicaStatus:
        """Wait for the supervisor's end; its last word."""
        async with asyncio.timeout(_SECONDS):
            while client.alive(self.folder, self.pid):  # noqa: ASYNC110  another process says when
                await asyncio.sleep(0.02)
        found = client.last_status(self.folder)
        assert found is not None
        return found

    def log(self) -> str:
        return (self.folder / client.LOG_FILE).read_text()


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest.fixture
def processes() -> Callable[[], set[int]]:
    """Processes below this one that were not there before the test."""
    before = guard.descendants(os.getpid())

    def left() -> set[int]:
        return guard.descendants(os.getpid()) - before

    return left


@pytest.fixture
async def supervised(tmp_path: Path) -> AsyncIterator[Supervised]:
    guard.become_subreaper()
    one = Supervised(tmp_path / ("long-" * 40 + "name") / "replica")  # longer than a socket's address may be
    yield one
    if one.pid and client.alive(one.folder, one.pid):
        await client.stop(one.folder)
        await one.ended()
    guard.reap()
