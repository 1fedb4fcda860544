"""What tables and values look like."""

from __future__ import annotations

import io
import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pilotlight.platform.cli.output import (
    Column,
    Form,
    clock_time,
    digest,
    number,
    safe,
    seconds,
    show_rows,
    size,
    table,
    text,
    unix_time,
)

COLUMNS = (Column("NAME", "name", text), Column("SLO", "policy.slo", text), Column("N", "n", number, right=True))
ROWS: list[dict[str, object]] = [
    {"name": "chat", "policy": {"slo": "interactive"}, "n": 1234},
    {"name": "a-much-longer-name", "n": None},
]


def test_a_piped_table_is_aligned_and_ends_its_lines_without_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows(ROWS, COLUMNS, Form.TABLE, empty="none")

    assert capsys.readouterr().out.splitlines() == [
        "NAME                SLO              N",
        "chat                interactive  1,234",
        "a-much-longer-name  -                -",
    ]


def test_a_piped_table_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows([{"name": "x" * 500}], COLUMNS, Form.TABLE, empty="none")

    assert "x" * 500 in capsys.readouterr().out


@pytest.mark.parametrize("columns", [20, 60, 100])
def test_a_narrow_terminal_folds_words_and_never_cuts_numbers(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    wide = [Column(f"COUNT-{each}", "n", number, right=True) for each in range(8)]

    show_rows([{"name": "chat" * 10, "n": 1_234_567}], [COLUMNS[0], *wide], Form.TABLE, empty="none")

    told = capsys.readouterr().out
    assert told.count("1,234,567") == 8
    assert "chatchatchat" in told


def test_markup_in_a_value_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows([{"name": "[red]x[/red]"}], COLUMNS, Form.TABLE, empty="none")

    assert "[red]x[/red]" in capsys.readouterr().out


def test_no_rows_are_said_on_stderr_and_are_an_empty_list_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows([], COLUMNS, Form.TABLE, empty="no functions")
    assert capsys.readouterr() == ("", "no functions\n")

    show_rows([], COLUMNS, Form.JSON, empty="no functions")
    assert json.loads(capsys.readouterr().out) == []


def test_json_and_yaml_hold_the_rows_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows(ROWS, COLUMNS, Form.JSON, empty="none")
    assert json.loads(capsys.readouterr().out) == ROWS

    show_rows(ROWS, COLUMNS, Form.YAML, empty="none")
    assert yaml.safe_load(capsys.readouterr().out) == ROWS


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0 ms"),
        (0.34, "340 ms"),
        (0.9999, "1.0 s"),
        (4.24, "4.2 s"),
        (59.97, "1m 00s"),
        (185, "3m 05s"),
        (7800, "2h 10m"),
        (273_600, "3d 4h"),
        (None, "-"),
    ],
)
def test_spans_are_short(value: float | None, shown: str) -> None:
    assert seconds(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**30, "1.0 GiB"), (5 * 2**50, "5120.0 TiB"), (None, "-")],
)
def test_sizes_have_binary_units(value: int | None, shown: str) -> None:
    assert size(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), ("", "-"), ([], "-"), (True, "yes"), (False, "no"), (["a", "b"], "a,b"), (0, "0")],
)
def test_cells(value: object, shown: str) -> None:
    assert text(value) == shown


def test_moments_are_unix_times_or_iso_texts() -> None:
    assert unix_time("2026-01-01T00:00:00+00:00") == unix_time(1_767_225_600.0) == 1_767_225_600.0
    assert unix_time(0) is unix_time(None) is unix_time("soon") is None
    assert clock_time(None) == "-"


def test_a_digest_is_shortened() -> None:
    assert digest("sha256:" + "0123456789abcdef" * 4) == "sha256:0123456789ab"


@given(st.text())
def test_text_of_others_cannot_drive_the_terminal(words: str) -> None:
    shown = safe(words)

    assert len(shown) == len(words)
    assert all(letter.isprintable() or letter in "\n\t" for letter in shown)


def test_a_narrow_terminal_wraps_texts_and_never_cuts_a_number() -> None:
    console = Console(file=io.StringIO(), width=24)
    console.print(table([{"name": "a-much-longer-name-than-fits", "n": 123456}], COLUMNS))
    assert isinstance(console.file, io.StringIO)

    shown = console.file.getvalue()

    assert "123,456" in shown
    assert "…" not in shown
    assert "".join(shown.split()).count("fits") == 1
