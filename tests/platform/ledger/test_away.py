"""PostgreSQL killed under the load of several writers, each a process: every request has one row, and none waits."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pilotlight.platform.database.connection import Database
from pilotlight.platform.database.usage import UsageFilter, UsageRows

PROGRAM = textwrap.dedent("""
    import os, sys
    from dataclasses import replace
    from pathlib import Path
    import structlog
    from pilotlight.activator.values import FunctionId, Usage
    from pilotlight.platform.database.connection import Database
    from pilotlight.platform.database.usage import UsageRows
    from pilotlight.platform.ledger.ledger import Ledger

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    folder, key, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    ledger = Ledger(folder, UsageRows(Database(os.environ["DATABASE"], wait=False)), 0.05)
    for order in map(str.strip, sys.stdin):
        if order == "end":
            break
        for number in range(number, number + int(order)):
            usage = Usage(f"{key}-{number}", key, FunctionId("team-a", "chat"), "chat-00001", 1.0 + number)
            ledger.admitted(usage)
            ledger.checkpoint([replace(usage, replica="x", completion_tokens=1)])
            if number % 100:
                ledger.finished(replace(usage, completion_tokens=number, prompt_tokens=2, outcome="ok"))
        number += 1
        print("done", flush=True)
    ledger.close(120.0)
""")


class Writer:
    """One process with a ledger; every hundredth of its requests does not end."""

    def __init__(self, folder: Path, key: str, address: str, first: int = 0) -> None:
        folder.mkdir(exist_ok=True)
        self.log = folder / f"log-{first}"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, folder / "ledger", key, str(first)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "DATABASE": address},
                text=True,
            )

    def requests(self, count: int) -> None:
        self._say(str(count))

    def done(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "done\n", self.log.read_text()

    def end(self) -> None:
        self.ask_to_end()
        assert self.process.wait(120) == 0, self.log.read_text()

    def ask_to_end(self) -> None:
        self._say("end")

    def _say(self, order: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def start() -> Iterator[Callable[..., Writer]]:
    started: list[Writer] = []

    def writer(*args: Any) -> Writer:
        started.append(Writer(*args))
        return started[-1]

    yield writer
    for each in started:
        each.close()


def test_no_request_is_lost_or_doubled_or_held_up_while_postgresql_is_away(
    tmp_path: Path,
    postgres: Any,
    start: Callable[..., Writer],
    until: Callable[[Callable[[], bool], str], None],
) -> None:
    address = postgres.ready()
    database = Database(address)
    rows = UsageRows(database)
    one, two = (start(tmp_path / name, name, address) for name in ("one", "two"))
    for writer in (one, two):
        writer.requests(500)
    until(lambda: bool(rows.rows(UsageFilter(), 1)), "the first rows")

    postgres.kill()
    try:
        for writer in (one, two):
            writer.requests(2000)
            writer.done()  # the first order, whose end the kill may have been in the midst of
            writer.done()
            until(lambda writer=writer: "cannot reach" in writer.log.read_text(), "noticing the outage")  # type: ignore[misc]
        two.close()  # kill -9 as well
        again = start(tmp_path / "two", "two", address, 2500)
        again.requests(500)
        again.done()
    finally:
        postgres.start()
    for writer in (one, again):
        writer.requests(250)
        writer.done()
        writer.end()

    sums = {row["key"]: row for row in rows.grouped("key", UsageFilter())}
    database.close()
    for key, requests in (("one", 2750), ("two", 3250)):
        ended = [number for number in range(requests) if number % 100]
        running = requests - len(ended)
        found = sums[key]
        assert (found["requests"], found["ok"], found["unknown"]) == (requests, len(ended), running)
        assert found["completion_tokens"] == sum(ended) + running
        assert found["prompt_tokens"] == 2 * len(ended)
    assert one.log.read_text().count("cannot reach") == 1
    assert [path.name for path in tmp_path.glob("*/ledger/*")] == []


def test_a_writer_starts_and_takes_requests_while_postgresql_is_away(
    tmp_path: Path, postgres: Any, start: Callable[..., Writer]
) -> None:
    address = postgres.empty()  # not even the schema is there
    postgres.stop()
    try:
        writer = start(tmp_path / "one", "one", address)
        writer.requests(150)
        writer.done()
    finally:
        postgres.start()
    writer.end()

    database = Database(address)
    [found] = UsageRows(database).grouped("key", UsageFilter())
    database.close()
    assert (found["requests"], found["ok"], found["unknown"]) == (150, 148, 2)


def test_a_writer_that_has_to_end_waits_for_its_database_and_leaves_nothing_behind(
    tmp_path: Path,
    postgres: Any,
    start: Callable[..., Writer],
    until: Callable[[Callable[[], bool], str], None],
) -> None:
    address = postgres.ready()
    postgres.kill()
    try:
        writer = start(tmp_path / "one", "one", address)
        writer.requests(150)
        writer.done()
        writer.ask_to_end()
        until(lambda: "cannot reach" in writer.log.read_text(), "a try without the database")
    finally:
        postgres.start()
    writer.end()

    database = Database(address)
    [found] = UsageRows(database).grouped("key", UsageFilter())
    database.close()
    assert found["requests"] == 150
    assert list((tmp_path / "one" / "ledger").iterdir()) == []
