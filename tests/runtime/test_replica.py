"""The start of one replica, in this process, with stand-ins for the engine that fail in chosen ways."""

from __future__ import annotations

import asyncio
import http.server
import logging
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pilotlight.runtime import guard
from pilotlight.runtime.board import Board
from pilotlight.runtime.enginehttp import free_port, listens
from pilotlight.runtime.engines.protocol import BadEngineSpecError, Launch, Place, Signal
from pilotlight.runtime.engines.vllm_log import cause
from pilotlight.runtime.holdings import Holdings
from pilotlight.runtime.replica import Replica
from pilotlight.runtime.spec import ReplicaSpec, ReplicaState
from pilotlight.runtime.wire import Request

if TYPE_CHECKING:
    from tests.runtime.conftest import Supervised

_SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def do_POST(self):
        self.send_response(int(sys.argv[2])); self.end_headers(); self.wfile.write(b"odd")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class _Engine:
    """Starts the programs one after the other, with the port and the status of its answers as arguments."""

    needs_model = False
    load_route = ("/load", "load")

    def __init__(self, *programs: str, status: int = 200) -> None:
        self.programs, self.status = list(programs), status
        self.ports: list[int] = []

    def launch(self, spec: ReplicaSpec, place: Place, inherited: Mapping[str, str]) -> Launch:  # noqa: ARG002
        self.ports.append(place.port)
        program = self.programs.pop(0)
        return Launch((sys.executable, "-c", program, str(place.port), str(self.status)), inherited)

    def read(self, line: str) -> Signal | None:  # noqa: ARG002
        return None

    def cause(self, lines: Sequence[str], exit_code: int | None) -> str:
        return cause(lines, exit_code)

    def warmups(self, spec: ReplicaSpec) -> Sequence[Request]:  # noqa: ARG002
        return (Request("POST", "/warm"),)


def _replica(supervised: Supervised, engine: _Engine) -> Replica:
    guard.become_subreaper()
    supervised.folder.mkdir(parents=True)
    log = logging.getLogger("test")
    return Replica(supervised.folder, supervised.spec(), engine, log, linger_seconds=0.0)


async def _live(replica: Replica, until: ReplicaState) -> int:
    """Let it live until it is in a state, then stop it; its exit code."""
    life = asyncio.create_task(replica.live())
    async with asyncio.timeout(60):
        while replica.board.state is not until and not life.done():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    replica.stop()
    return await life


async def test_a_port_that_was_taken_is_tried_once_more_with_another(supervised: Supervised) -> None:
    engine = _Engine("raise SystemExit('OSError: [Errno 98] Address already in use')", _SERVER)
    replica = _replica(supervised, engine)
    assert await _live(replica, ReplicaState.READY) == 0
    assert len(engine.ports) == 2


async def test_a_port_that_is_taken_twice_fails_the_start(supervised: Supervised) -> None:
    taken = "raise SystemExit('OSError: [Errno 98] Address already in use')"
    replica = _replica(supervised, _Engine(taken, taken, _SERVER))
    assert await _live(replica, ReplicaState.FAILED) == 1
    assert replica.board.message == "the engine's port was taken by another process"


async def test_an_engine_whose_first_answer_is_an_error_is_not_ready(supervised: Supervised) -> None:
    replica = _replica(supervised, _Engine(_SERVER, status=500))
    assert await _live(replica, ReplicaState.FAILED) == 1
    assert replica.board.message == "the engine's first answer had status 500: odd"


async def test_an_engine_that_dies_before_it_is_up_fails_with_its_cause(supervised: Supervised) -> None:
    replica = _replica(supervised, _Engine("print('hello'); raise RuntimeError('no such layer')"))
    assert await _live(replica, ReplicaState.FAILED) == 1
    assert replica.board.message == "the engine failed: RuntimeError: no such layer"
    assert "hello" in replica.board.log_tail


def test_a_strangers_socket_is_not_taken_for_the_engines() -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        assert listens(server.server_port, {os.getpid()})
        assert not listens(server.server_port, {os.getppid()})
        assert not listens(free_port(), {os.getpid()})
    finally:
        server.shutdown()
        server.server_close()


async def test_starts_on_a_shared_device_take_turns(supervised: Supervised) -> None:
    spec = replace(supervised.spec(), devices=("GPU-b", "GPU-a"))
    supervised.folder.mkdir(parents=True)
    order: list[str] = []

    async def start(name: str) -> None:
        async with Holdings(spec, Board(supervised.folder, spec)).devices():
            order.append(f"{name} begins")
            await asyncio.sleep(0)
            order.append(f"{name} ends")

    await asyncio.gather(start("one"), start("two"))
    assert order == ["one begins", "one ends", "two begins", "two ends"]


async def test_a_device_that_is_no_uuid_is_refused(supervised: Supervised) -> None:
    spec = replace(supervised.spec(), devices=("../escape",))
    supervised.folder.mkdir(parents=True)
    with pytest.raises(BadEngineSpecError, match="not a device's UUID"):
        async with Holdings(spec, Board(supervised.folder, spec)).devices():
            pass


async def test_a_model_that_cannot_be_fetched_fails_with_the_reason(supervised: Supervised, tmp_path: Path) -> None:
    spec = replace(supervised.spec(), store=(tmp_path / "store").as_uri(), model="sha256:" + "0" * 64)
    supervised.folder.mkdir(parents=True)
    with pytest.raises(BadEngineSpecError, match=r"could not be fetched: .*blobs/sha256/000"):
        await Holdings(spec, Board(supervised.folder, spec)).acquire(needed=True)
