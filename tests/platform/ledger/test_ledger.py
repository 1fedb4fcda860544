"""The ledger with a real database: what is written, what survives a crash at any byte, what is never doubled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from pilotlight.activator.values import FunctionId, Usage
from pilotlight.platform.database.connection import Database
from pilotlight.platform.database.usage import UsageFilter, UsageRows
from pilotlight.platform.ledger.journal import JournalError
from pilotlight.platform.ledger.ledger import Ledger
from pilotlight.platform.ledger.lines import decode, encode, fold

CHAT = FunctionId("team-a", "chat")
NEVER = 3600.0


def usage(request: str, **changes: object) -> Usage:
    return replace(Usage(request, "key-1", CHAT, "chat-00001", 1_790_000_000.0), **changes)  # type: ignore[arg-type]  # a test's shorthand


@pytest.fixture
def rows(database: Database) -> UsageRows:
    return UsageRows(database)


def by_request(rows: UsageRows) -> dict[str, Usage]:
    return {row.request: row for row in rows.rows(UsageFilter(), 1000)}


def test_a_request_has_one_row_from_admission_to_end(tmp_path: Path, rows: UsageRows) -> None:
    ledger = Ledger(tmp_path / "ledger", rows, NEVER)
    ledger.admitted(usage("r1"))
    ledger.flush()
    assert by_request(rows)["r1"].outcome == "running"
    ledger.checkpoint([usage("r1", replica="x", completion_tokens=5)])
    ledger.finished(usage("r1", replica="x", completion_tokens=9, outcome="ok", status=200))
    ledger.close()

    assert by_request(rows) == {
        "r1": usage("r1", replica="x", completion_tokens=9, outcome="ok", status=200),
    }
    assert list((tmp_path / "ledger").iterdir()) == []


def test_what_did_not_end_is_unknown_with_its_last_checkpoint(tmp_path: Path, rows: UsageRows) -> None:
    ledger = Ledger(tmp_path / "ledger", rows, NEVER)
    ledger.admitted(usage("held"))
    ledger.admitted(usage("streaming"))
    ledger.checkpoint([usage("held"), usage("streaming", replica="x", prompt_tokens=3, completion_tokens=7)])
    ledger.admitted(usage("done"))
    ledger.finished(usage("done", outcome="ok"))

    again = Ledger(tmp_path / "ledger", rows, NEVER)
    again.flush()

    found = by_request(rows)
    assert {name: row.outcome for name, row in found.items()} == {
        "held": "unknown",
        "streaming": "unknown",
        "done": "ok",
    }
    assert (found["streaming"].prompt_tokens, found["streaming"].completion_tokens) == (3, 7)
    again.close()
    ledger._stop.set()  # noqa: SLF001  # stands for the killed process


def test_kill_9_loses_no_admitted_request(tmp_path: Path, sqlite: Database) -> None:
    program = textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        from pilotlight.activator.values import FunctionId, Usage
        from pilotlight.platform.database.connection import Database
        from pilotlight.platform.database.usage import UsageRows
        from pilotlight.platform.ledger.ledger import Ledger
        folder = Path(sys.argv[1])
        ledger = Ledger(folder / "ledger", UsageRows(Database.at(folder / "pilotlight.db")), 0.01)
        for number in range(300):
            usage = Usage(f"r{number}", "key-1", FunctionId("team-a", "chat"), "chat-00001", 1.0 + number)
            ledger.admitted(usage)
            print(number, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL

    rows = UsageRows(sqlite)
    Ledger(tmp_path / "ledger", rows, NEVER).close()

    found = by_request(rows)
    assert set(found) == {f"r{number}" for number in range(300)}
    assert {row.outcome for row in found.values()} == {"unknown"}


def test_the_oldest_waiting_request_is_the_cause_of_a_start(tmp_path: Path, rows: UsageRows) -> None:
    ledger = Ledger(tmp_path / "ledger", rows, NEVER)
    ledger.admitted(replace(usage("other"), function=FunctionId("team-a", "other"), key="key-0"))
    ledger.admitted(usage("r1", key="key-1"))
    ledger.admitted(usage("r2", key="key-2"))

    assert ledger.cause(CHAT) == "key-1"
    ledger.finished(usage("r1", outcome="cancelled"))
    assert ledger.cause(CHAT) == "key-2"
    assert ledger.cause(FunctionId("team-b", "chat")) == ""
    ledger.close()


def test_the_journal_is_cut_behind_the_database(tmp_path: Path, rows: UsageRows) -> None:
    ledger = Ledger(tmp_path / "ledger", rows, NEVER)
    for number in range(100):
        ledger.admitted(usage(f"r{number}"))
        ledger.finished(usage(f"r{number}", outcome="ok"))
    assert ledger.spooled > 0
    ledger.flush()

    assert ledger.spooled == sum(path.stat().st_size for path in (tmp_path / "ledger").iterdir()) == 0
    assert len(by_request(rows)) == 100
    ledger.close()


def test_a_full_journal_takes_the_ends_of_what_runs_and_nothing_else(tmp_path: Path, rows: UsageRows) -> None:
    ledger = Ledger(tmp_path / "ledger", rows, NEVER, spool_bytes=10_000)
    running: list[str] = []

    def fill() -> None:
        for number in count():
            ledger.admitted(usage(f"r{number}"))
            running.append(f"r{number}")

    with capture_logs() as said, pytest.raises(JournalError, match="full"):
        fill()
    full = ledger.spooled
    for _ in range(10):
        ledger.checkpoint([usage(name, replica="x", completion_tokens=1) for name in running])
        ledger.finished(usage("refused", outcome="rejected"))
    assert ledger.spooled == full <= 10_000

    for name in running:
        ledger.finished(usage(name, replica="x", completion_tokens=2, outcome="ok"))
    assert ledger.spooled > 10_000
    with pytest.raises(JournalError):
        ledger.admitted(usage("late"))
    ledger.flush()
    ledger.admitted(usage("after"))
    ledger.close()

    found = by_request(rows)
    assert len(running) > 5
    assert set(found) == {*running, "refused", "after"}
    assert all(found[name].completion_tokens == 2 for name in running)
    assert [entry["event"] for entry in said] == ["ledger takes no request"]


def test_the_start_of_one_writer_leaves_what_runs_at_another(tmp_path: Path, rows: UsageRows) -> None:
    first = Ledger(tmp_path / "first", rows, NEVER)
    first.admitted(usage("r1"))
    first.flush()

    second = Ledger(tmp_path / "second", rows, 0.01)
    second.admitted(usage("r2"))
    second.close()

    assert {name: row.outcome for name, row in by_request(rows).items()} == {"r1": "running", "r2": "unknown"}
    first.finished(usage("r1", outcome="ok"))
    first.close()
    assert by_request(rows)["r1"].outcome == "ok"


def test_a_row_that_the_database_refuses_holds_up_no_other(tmp_path: Path, postgres: Any) -> None:
    database = Database(postgres.ready())
    ledger = Ledger(tmp_path / "ledger", UsageRows(database), NEVER)
    for number in range(20):
        ledger.finished(usage("long" * 100 if number == 7 else f"r{number}", outcome="ok"))
    with capture_logs() as said:
        ledger.close()

    assert set(by_request(UsageRows(database))) == {f"r{number}" for number in range(20) if number != 7}
    assert [entry["event"] for entry in said] == ["ledger row refused by the database"]
    assert list((tmp_path / "ledger").iterdir()) == []
    database.close()


def test_an_admission_that_cannot_be_written_is_refused(tmp_path: Path, rows: UsageRows) -> None:
    ledger = Ledger(tmp_path / "ledger", rows, NEVER)
    full = os.open("/dev/full", os.O_WRONLY)
    own, ledger._journal._descriptor = ledger._journal._descriptor, full  # noqa: SLF001

    with pytest.raises(JournalError):
        ledger.admitted(usage("r1"))
    ledger.finished(usage("r0", outcome="ok"))
    ledger._journal._descriptor = own  # noqa: SLF001
    os.close(full)
    ledger.close()

    assert set(by_request(rows)) == {"r0"}


events = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(["checkpoint", "finish"]), st.integers(0, 50)), max_size=30
)


def script(steps: list[tuple[int, str, int]]) -> list[Usage]:
    """Lines as an activator would write them: admission first, counts that grow, one end."""
    lines: list[Usage] = []
    state: dict[int, Usage] = {}
    for number, kind, tokens in steps:
        known = state.get(number)
        if known is None:
            state[number] = usage(f"r{number}")
        elif known.outcome == "running":
            count = known.completion_tokens + tokens
            outcome = "ok" if kind == "finish" else "running"
            state[number] = replace(known, replica="x", completion_tokens=count, outcome=outcome)
        else:
            continue
        lines.append(state[number])
    return lines


@settings(max_examples=60, deadline=None)
@given(events, st.data())
def test_a_crash_at_any_byte_loses_nothing_written_and_doubles_nothing(
    steps: list[tuple[int, str, int]], data: st.DataObject
) -> None:
    lines = script(steps)
    journal = b"".join(map(encode, lines))
    crash = data.draw(st.integers(0, len(journal)))
    flushed = data.draw(st.integers(0, len(lines)))
    whole = journal[:crash].count(b"\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = Database.at(folder / "pilotlight.db")
        rows = UsageRows(database)
        for line in lines[:flushed]:
            rows.write([line])
        (folder / "ledger").mkdir()
        (folder / "ledger" / "journal-00000001.jsonl").write_bytes(journal[:crash])

        for _ in range(2):  # a second crash right after changes nothing
            Ledger(folder / "ledger", rows, NEVER).close()

        found = by_request(rows)
        database.close()
    expected: dict[str, Usage] = {}
    for line in lines[: max(whole, flushed)]:
        expected[line.request] = line
    assert set(found) == set(expected)
    for request, line in expected.items():
        assert found[request].completion_tokens == line.completion_tokens
        assert found[request].outcome == ("ok" if line.outcome == "ok" else "unknown")


@given(st.binary(max_size=300))
def test_foreign_bytes_in_the_journal_are_counted_not_fatal(junk: bytes) -> None:
    lines = [junk.replace(b"\n", b" ") + b"\n", encode(usage("r1"))]

    state, unreadable = fold(lines)

    assert set(state) == {"r1"}
    assert unreadable == 1


@given(st.text(max_size=2000), st.integers(0, 2**40))
def test_a_line_reads_back_as_it_was_written(reason: str, tokens: int) -> None:
    row = usage("r1", reason=reason[:500], prompt_tokens=tokens)

    assert encode(row).count(b"\n") == 1
    assert decode(encode(row)) == row
