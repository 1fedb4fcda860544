"""The engine's log: whole lines whatever the pieces, a bounded file, a tail that tells something."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.runtime import enginelog
from pilotlight.runtime.enginelog import TAIL_LINES, EngineLog


@given(st.lists(st.text("ab\n\r é", min_size=1), max_size=8), st.integers(1, 7))
def test_lines_do_not_depend_on_how_the_output_was_cut(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], size: int
) -> None:
    data = "".join(texts).encode() + b"\n"
    log = EngineLog(tmp_path_factory.mktemp("log") / "engine.log")
    lines = [line for start in range(0, len(data), size) for line in log.feed(data[start : start + size])]
    log.close()
    assert lines == [line.rstrip() for line in data.decode().replace("\r", "\n").split("\n") if line.strip()]


def test_the_file_is_turned_once_it_is_full_and_the_oldest_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enginelog, "FILE_BYTES", 10)
    log = EngineLog(tmp_path / "engine.log")
    for text in (b"first\n", b"second\n", b"third\n"):
        list(log.feed(text))
    log.close()
    assert (tmp_path / "engine.log").read_bytes() == b"third\n"
    assert (tmp_path / "engine.log.1").read_bytes() == b"second\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["engine.log", "engine.log.1"]


def test_a_line_without_end_is_bounded_in_memory(tmp_path: Path) -> None:
    log = EngineLog(tmp_path / "engine.log")
    lines = [line for _ in range(10) for line in log.feed(b"x" * 5000)]
    log.close()
    assert lines
    assert max(len(line) for line in lines) <= enginelog.LINE_BYTES


def test_the_tail_leaves_out_what_tells_nothing(tmp_path: Path) -> None:
    log = EngineLog(tmp_path / "engine.log")
    list(log.feed(b"".join(b"line %d\n" % number for number in range(50))))
    list(log.feed(b"INFO [launcher.py:195] Route: /v1/models, Methods: GET\n  warnings.warn(\n"))
    log.close()
    assert log.tail() == tuple(f"line {number}" for number in range(50 - TAIL_LINES, 50))
