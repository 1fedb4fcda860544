"""`python -m pilotlight.runtime.pod`: the process that holds one replica as a container of a Kubernetes pod.

All it is told comes by the environment (`runtime.podspec`). The engine's output goes to stdout, what the supervisor
says of itself to stderr as JSON lines, and why it failed to the container's termination log.

Exit codes: 0 ended as asked, 1 the replica failed, 2 an environment that is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pilotlight.runtime.codec import BadDocumentError
from pilotlight.runtime.engines import engine_of
from pilotlight.runtime.engines.protocol import BadEngineSpecError, Engine, Listen
from pilotlight.runtime.guard import become_subreaper
from pilotlight.runtime.jsonlog import json_log
from pilotlight.runtime.podspec import (
    KEY_VARIABLE,
    PodSettings,
    read_environment,
    termination_log,
    termination_message,
)
from pilotlight.runtime.replica import Replica
from pilotlight.runtime.running import run
from pilotlight.runtime.statusport import serve_status

EVERYWHERE = "0.0.0.0"  # noqa: S104  the pod's own address, which it does not know; both ports want the key


def main() -> int:
    # The first process of a container is not ended by a signal that it has no handler for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    log = json_log(logging.StreamHandler(sys.stderr))
    try:
        settings = read_environment(os.environ, socket.gethostname())
        engine = engine_of(settings.spec.engine.kind)
        folder = _folder()
    except (BadDocumentError, BadEngineSpecError) as error:
        return _refused(log, f"the spec was refused: {error}")
    except OSError as error:
        return _refused(log, f"nothing can be written here: {error.strerror} ({error.filename}); mount an emptyDir")
    os.environ.pop(KEY_VARIABLE)
    become_subreaper()
    return _hold(settings, engine, folder, log)


def _hold(settings: PodSettings, engine: Engine, folder: Path, log: logging.Logger) -> int:
    listen = Listen(EVERYWHERE, settings.engine_port)
    replica = Replica(folder, settings.spec, engine, log, listen=listen, output=sys.stdout.buffer)
    key, port = settings.spec.engine.key, settings.status_port
    code = asyncio.run(run(replica, lambda replica: serve_status(EVERYWHERE, port, key, replica)))
    if code:
        status = replica.board.status()
        _tell(status.message, status.log_tail)
    return code


def _folder() -> Path:
    """The replica's own files; a container that is started anew finds the last one's. Raises OSError."""
    folder = Path(tempfile.gettempdir()) / "replica"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _refused(log: logging.Logger, reason: str) -> int:
    log.error("refused", extra={"reason": reason})
    _tell(reason)
    return 2


def _tell(reason: str, lines: Sequence[str] = ()) -> None:
    """Write the termination log, where there is one: Kubernetes makes the file."""
    with contextlib.suppress(FileNotFoundError), termination_log(os.environ).open("r+b") as file:
        file.truncate()
        file.write(termination_message(reason, tuple(lines)))


if __name__ == "__main__":
    sys.exit(main())
