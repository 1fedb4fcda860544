"""The ledger of requests: durable at admission, complete after any crash, never counted twice.

A request's line is in the journal before it goes on. A thread moves what the journal has into the database about
twice a second, and cuts the journal only behind that. At start the journal is folded into the database and whatever
still runs there is closed as `unknown`, with the counts of its last checkpoint.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import structlog

from pilotlight.activator.values import FunctionId, Usage
from pilotlight.platform.database.connection import DatabaseError
from pilotlight.platform.database.usage import UsageRows
from pilotlight.platform.ledger.journal import Journal, JournalError, read_segments
from pilotlight.platform.ledger.lines import encode, fold, later

FLUSH_SECONDS = 0.5
"""Longest that a finished request waits for its row."""
BATCH = 500
"""Rows per transaction."""

log = structlog.get_logger(__name__)


class Replayed(NamedTuple):
    """What a start found in the journal."""

    requests: int
    unknown: int
    unreadable: int


class Ledger:
    """Implements the activator's `Meter`."""

    def __init__(self, folder: Path, rows: UsageRows, flush_seconds: float = FLUSH_SECONDS) -> None:
        self._rows = rows
        self._flush_seconds = flush_seconds
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._pending: dict[str, Usage] = {}
        self._running: dict[str, tuple[FunctionId, str]] = {}
        self.replayed = _replay(folder, rows)
        self._journal = Journal(folder)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)
        self._thread.start()

    def admitted(self, usage: Usage) -> None:
        """Durable when it returns; raises JournalError, and then the request must be refused."""
        with self._lock:
            self._journal.append(encode(usage))
            self._take(usage)
        self._running[usage.request] = (usage.function, usage.key)

    def checkpoint(self, usages: Sequence[Usage]) -> None:
        """One write for all; requests that still wait have nothing to add to their admission."""
        self._advance([usage for usage in usages if usage.replica or usage.completion_tokens])

    def finished(self, usage: Usage) -> None:
        self._running.pop(usage.request, None)
        self._advance([usage])

    def cause(self, function: FunctionId) -> str:
        """The key of the oldest request that runs or waits at `function`; empty: there is none."""
        return next((key for target, key in self._running.values() if target == function), "")

    def flush(self) -> None:
        """Bring everything so far into the database; raises DatabaseError, and then nothing is lost either."""
        with self._flushing:
            with self._lock:
                self._journal.turn()
                batch = list(self._pending.values())
            self._journal.sync()
            for start in range(0, len(batch), BATCH):
                self._write(batch[start : start + BATCH])
            self._journal.cut()

    def close(self) -> None:
        """Flush and end; the journal stays on disk when the database does not take it."""
        self._stop.set()
        self._thread.join()
        try:
            self.flush()
            kept = True
        except DatabaseError as error:
            log.error("ledger could not be flushed; the journal keeps it", error=str(error))
            kept = False
        self._journal.close(everything_kept=kept)

    def _write(self, batch: Sequence[Usage]) -> None:
        self._rows.write(batch)
        with self._lock:
            for usage in batch:
                if self._pending.get(usage.request) is usage:
                    del self._pending[usage.request]

    def _advance(self, usages: Sequence[Usage]) -> None:
        if not usages:
            return
        # The line and what is pending change together, so that a segment is never cut before its rows are kept.
        with self._lock:
            try:
                self._journal.append(b"".join(map(encode, usages)))
            except JournalError as error:
                # These requests run already: a full disk must not fail them, the database takes them from memory.
                log.error("ledger journal", error=str(error))
            for usage in usages:
                self._take(usage)

    def _take(self, usage: Usage) -> None:
        self._pending[usage.request] = later(self._pending.get(usage.request), usage)

    def _work(self) -> None:
        while not self._stop.wait(self._flush_seconds):
            try:
                self.flush()
            except (DatabaseError, OSError) as error:
                log.error("ledger flush failed; it is tried again", error=str(error))
            except Exception:  # without this thread no row would ever be written again
                log.exception("ledger flush failed; it is tried again")


def _replay(folder: Path, rows: UsageRows) -> Replayed:
    folder.mkdir(parents=True, exist_ok=True)
    found, unreadable = fold(read_segments(folder))
    batch = list(found.values())
    for start in range(0, len(batch), BATCH):
        rows.write(batch[start : start + BATCH])
    unknown = rows.close_running("the platform ended before the request did")
    for path in folder.glob("journal-*.jsonl"):
        path.unlink()
    if batch:
        log.info("ledger replayed", requests=len(batch), unknown=unknown, unreadable=unreadable)
    return Replayed(len(batch), unknown, unreadable)
