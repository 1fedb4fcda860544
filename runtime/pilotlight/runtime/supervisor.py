"""`python -m pilotlight.runtime.supervisor <replica folder>`: the process that holds one replica.

Exit codes: 0 ended as asked, 1 the replica failed, 2 wrong usage or a spec that is refused.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from pathlib import Path

from pilotlight.runtime.board import STATUS_FILE, write_atomically
from pilotlight.runtime.client import LOCK_FILE, LOG_FILE, SPEC_FILE
from pilotlight.runtime.codec import LIMIT, BadDocumentError, dump, parse_spec
from pilotlight.runtime.control import SOCKET_FILE, serve_control
from pilotlight.runtime.engines import engine_of
from pilotlight.runtime.engines.protocol import BadEngineSpecError, Engine
from pilotlight.runtime.guard import become_subreaper
from pilotlight.runtime.locks import FileLock, LockTimeoutError
from pilotlight.runtime.replica import Replica
from pilotlight.runtime.spec import ReplicaSpec, ReplicaState, ReplicaStatus

LOCK_SECONDS = 1.0
"""Whoever asks whether the folder has a supervisor holds its lock for a moment: that one is waited for."""
_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class _JsonLines(logging.Formatter):
    """One JSON object per line, with what was given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {"time": round(record.created, 3), "level": record.levelname.lower()}
        line |= {"event": record.getMessage()}
        line |= {name: value for name, value in vars(record).items() if name not in _KNOWN}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: python -m pilotlight.runtime.supervisor REPLICA_FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(LOCK_SECONDS)
    except LockTimeoutError:
        print(f"another supervisor holds {folder}", file=sys.stderr)
        return 2
    log = _logger(folder)
    try:
        with (folder / SPEC_FILE).open("rb") as file:
            spec = parse_spec(file.read(LIMIT + 1))
        engine = engine_of(spec.engine.kind)
    except (OSError, BadDocumentError, BadEngineSpecError) as error:
        log.error("spec refused", extra={"reason": str(error)})
        refused = ReplicaStatus(folder.name, "", ReplicaState.FAILED, message=f"the spec was refused: {error}")
        write_atomically(folder / STATUS_FILE, dump(refused))
        return 2
    become_subreaper()
    return asyncio.run(_run(folder, spec, engine, log))


async def _run(folder: Path, spec: ReplicaSpec, engine: Engine, log: logging.Logger) -> int:
    replica = Replica(folder, spec, engine, log)
    loop = asyncio.get_running_loop()

    def asked() -> None:
        if replica.draining:
            replica.stop("stopped by a second signal")
        else:
            replica.drain("drained by a signal")

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked)
    server = await serve_control(folder, replica)
    try:
        return await replica.live()
    finally:
        server.close()
        (folder / SOCKET_FILE).unlink(missing_ok=True)


def _logger(folder: Path) -> logging.Logger:
    log = logging.getLogger("pilotlight.supervisor")
    log.setLevel(logging.INFO)
    log.propagate = False
    handler = logging.FileHandler(folder / LOG_FILE)
    handler.setFormatter(_JsonLines())
    log.addHandler(handler)
    return log


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
