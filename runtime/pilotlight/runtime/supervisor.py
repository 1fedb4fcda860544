"""`python -m pilotlight.runtime.supervisor <replica folder>`: the process that holds one replica on its own machine.

Exit codes: 0 ended as asked, 1 the replica failed, 2 wrong usage or a spec that is refused.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

from pilotlight.runtime.board import STATUS_FILE, write_atomically
from pilotlight.runtime.client import LOCK_FILE, LOG_FILE, SPEC_FILE
from pilotlight.runtime.codec import LIMIT, BadDocumentError, dump, parse_spec
from pilotlight.runtime.control import SOCKET_FILE, serve_control
from pilotlight.runtime.engines import engine_of
from pilotlight.runtime.engines.protocol import BadEngineSpecError
from pilotlight.runtime.guard import become_subreaper
from pilotlight.runtime.jsonlog import json_log
from pilotlight.runtime.locks import FileLock, LockTimeoutError
from pilotlight.runtime.replica import Replica
from pilotlight.runtime.running import run
from pilotlight.runtime.spec import ReplicaState, ReplicaStatus

LOCK_SECONDS = 1.0
"""Whoever asks whether the folder has a supervisor holds its lock for a moment: that one is waited for."""


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
    log = json_log(logging.FileHandler(folder / LOG_FILE))
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
    replica = Replica(folder, spec, engine, log)
    try:
        return asyncio.run(run(replica, lambda replica: serve_control(folder, replica)))
    finally:
        (folder / SOCKET_FILE).unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
