"""The ledger of requests: durable at admission, complete after any crash, never counted twice.

A request's line is in the journal before it goes on. A thread closes the journal's present segment about twice a
second, brings the last state of each of its requests into the database, and only then removes it. Segments that an
earlier life left behind go the same way; what still runs after that in its name becomes `unknown`, with the counts of
its last checkpoint. A database that is away delays all this and nothing else.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import structlog

from pilotlight.activator.values import Clock, FunctionId, Usage
from pilotlight.platform.clock import SystemClock
from pilotlight.platform.database.connection import DatabaseError
from pilotlight.platform.database.usage import UsageRows
from pilotlight.platform.ledger.journal import SPOOL_BYTES, Journal, JournalError, Segment, read
from pilotlight.platform.ledger.lines import encode, fold
from pilotlight.platform.ledger.outage import Outage

FLUSH_SECONDS = 0.5
"""Longest that a finished request waits for its row."""
BATCH = 500
"""Rows per transaction."""
BEAT_SECONDS = 15.0
"""The database hears of every writer so often."""
LAST_TRIES_SECONDS = 1.0
"""Between tries to leave nothing behind."""
KEPT = 10_000
"""Rows of refused requests that memory keeps while the journal takes none."""
ENDED = "the platform ended before the request did"

log = structlog.get_logger(__name__)


class Ledger:
    """Implements the activator's `Meter`; several may write to one database, each with a folder of its own."""

    def __init__(
        self,
        folder: Path,
        rows: UsageRows,
        flush_seconds: float = FLUSH_SECONDS,
        spool_bytes: int = SPOOL_BYTES,
        clock: Clock | None = None,
    ) -> None:
        """Needs no database to start; raises OSError when `folder` cannot be written.

        `spool_bytes`: largest journal; admissions beyond it are refused until the database has taken some of it.
        """
        self.writer = secrets.token_hex(8)
        """Of this life: the next one in the same folder is another."""
        self._rows = rows
        self._flush_seconds = flush_seconds
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._journal = Journal(folder, self.writer, spool_bytes)
        self._running: dict[str, tuple[FunctionId, str]] = {}
        self._unwritten: dict[str, Usage] = {}
        self._writable = True
        self._outage = Outage(self._clock)
        self._beat_at: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)
        self._thread.start()

    @property
    def spooled(self) -> int:
        """Bytes of the journal that the database does not have yet."""
        return self._journal.size

    def admitted(self, usage: Usage) -> None:
        """Durable when it returns; raises JournalError, and then the request must be refused."""
        with self._lock:
            self._append(encode(usage), reserved=False)
        self._running[usage.request] = (usage.function, usage.key)

    def checkpoint(self, usages: Sequence[Usage]) -> None:
        """One write for all; requests that still wait have nothing to add to their admission."""
        lines = b"".join(encode(usage) for usage in usages if usage.replica or usage.completion_tokens)
        if lines:
            with self._lock:
                self._append_or_not(lines, reserved=False)

    def finished(self, usage: Usage) -> None:
        """Kept in memory where the journal takes nothing: a full disk must not fail what runs already."""
        admitted = self._running.pop(usage.request, None) is not None
        with self._lock:
            if not self._append_or_not(encode(usage), reserved=admitted) and (admitted or len(self._unwritten) < KEPT):
                self._unwritten[usage.request] = usage

    def cause(self, function: FunctionId) -> str:
        """The key of the oldest request that runs or waits at `function`; empty: there is none."""
        return next((key for target, key in self._running.values() if target == function), "")

    def flush(self) -> None:
        """Bring everything so far into the database; raises DatabaseError, and then nothing is lost either."""
        with self._flushing:
            self._bring_closed()
            with self._lock:
                self._journal.turn()
            self._journal.sync()
            self._bring_closed()
            self._bring_unwritten()

    def close(self, patience_seconds: float = 0.0) -> None:
        """Flush and end; a database that is away is waited for so long, then the journal stays on disk."""
        self._stop.set()
        self._thread.join()
        deadline = self._clock.monotonic() + patience_seconds
        while not self._brought_all() and self._clock.monotonic() < deadline:
            time.sleep(LAST_TRIES_SECONDS)
        self._journal.close()

    def _brought_all(self) -> bool:
        try:
            self.flush()
            self._rows.close_running(self.writer, ENDED)
        except DatabaseError as error:
            self._outage.failed(error)
            return False
        return True

    def _append(self, lines: bytes, reserved: bool) -> None:
        try:
            self._journal.append(lines, reserved)
        except JournalError as error:
            if self._writable:
                log.error("ledger takes no request", error=str(error))
            self._writable = False
            raise
        self._writable = True

    def _append_or_not(self, lines: bytes, reserved: bool) -> bool:
        try:
            self._append(lines, reserved)
        except JournalError:
            return False
        return True

    def _work(self) -> None:
        wait = 0.0 if self._journal.closed else self._flush_seconds
        while not self._stop.wait(wait):
            wait = self._flush_seconds
            try:
                self._tick()
            except (DatabaseError, OSError) as error:
                self._beat_at = None  # the next try begins with what costs little
                self._outage.failed(error)
            except Exception:  # without this thread no row would ever be written again
                log.exception("ledger flush failed; it is tried again")

    def _tick(self) -> None:
        if self._outage.waits():
            with self._flushing:
                self._journal.sync()
            return
        self.flush()
        self._outage.over(self._journal.size)

    def _beat(self) -> None:
        now = self._clock.monotonic()
        if self._beat_at is None or now - self._beat_at >= BEAT_SECONDS:
            self._rows.seen(self.writer, self._clock.now())
            self._beat_at = now

    def _bring_closed(self) -> None:
        self._beat()
        while self._journal.closed:
            self._beat()
            segment = self._journal.closed[0]
            self._bring(segment)
            with self._lock:
                self._journal.remove()

    def _bring(self, segment: Segment) -> None:
        found, unreadable = fold(read(segment))
        self._write(found.values(), segment.writer)
        if unreadable:
            log.warning("ledger lines could not be read", lines=unreadable, segment=segment.path.name)
        rest = islice(self._journal.closed, 1, None)
        if segment.writer != self.writer and all(other.writer != segment.writer for other in rest):
            unknown = self._rows.close_running(segment.writer, ENDED)
            log.info("ledger replayed", writer=segment.writer, unknown=unknown)

    def _bring_unwritten(self) -> None:
        with self._lock:
            kept = dict(self._unwritten)
        self._write(kept.values(), self.writer)
        with self._lock:
            for request in kept:
                del self._unwritten[request]

    def _write(self, usages: Iterable[Usage], writer: str) -> None:
        remaining = iter(usages)
        while batch := list(islice(remaining, BATCH)):
            self._write_batch(batch, writer)

    def _write_batch(self, batch: list[Usage], writer: str) -> None:
        """A row that the database refuses must not hold up the others."""
        try:
            self._rows.write(batch, writer)
        except DatabaseError as error:
            if not error.refused:
                raise
            if len(batch) == 1:
                log.error("ledger row refused by the database", row=encode(batch[0]).decode(), error=str(error))
                return
            middle = len(batch) // 2
            self._write_batch(batch[:middle], writer)
            self._write_batch(batch[middle:], writer)
