"""How commands print: tables for people, JSON and YAML for programs; the same rows for both.

Without a terminal nothing is coloured, cut or padded: a table is what `awk` expects.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PIPE_COLUMNS = 10_000
"""Width of a table that no terminal limits."""
FOLDED_COLUMNS = 12
"""A column of words is folded down to this width; numbers are never cut."""


class Form(StrEnum):
    """What a command prints its rows as."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


@dataclass(frozen=True)
class Column:
    """One column: its title, the key of its value in a row (dots descend), and how the value reads."""

    title: str
    key: str
    read: Callable[[object], str] = str
    right: bool = False


def show_rows(rows: Sequence[Mapping[str, object]], columns: Sequence[Column], form: Form, *, empty: str) -> None:
    """Print `rows`; `empty` is said to stderr in place of a table without rows."""
    if form is not Form.TABLE:
        show_value(list(rows), form)
    elif rows:
        show_table(table(rows, columns))
    else:
        print(empty, file=sys.stderr)


def show_value(value: object, form: Form) -> None:
    """Print one JSON value as JSON or YAML."""
    if form is Form.YAML:
        import yaml

        print(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), end="")
    else:
        print(json.dumps(value, indent=2, ensure_ascii=False))


def show_table(what: Table) -> None:
    console = terminal() if sys.stdout.isatty() else plain()
    # Left to itself, a table that is too wide loses digits; the terminal's own line break loses nothing.
    console.width = max(console.width, narrowest(what))
    with console.capture() as captured:
        console.print(what)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def narrowest(what: Table) -> int:
    """Columns of a terminal that the table needs at least, with its words folded and its numbers whole."""
    from rich.cells import cell_len

    longest = [max(cell_len(str(cell)) for cell in (column.header, *column.cells)) for column in what.columns]
    return sum(
        2 + (length if column.no_wrap else min(length, FOLDED_COLUMNS))
        for column, length in zip(what.columns, longest, strict=True)
    )


def table(rows: Sequence[Mapping[str, object]], columns: Sequence[Column]) -> Table:
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(
            column.title, justify="right" if column.right else "left", no_wrap=column.right, overflow="fold"
        )
    for row in rows:
        made.add_row(*(Text(column.read(lookup(row, column.key))) for column in columns))
    return made


def terminal(*, stderr: bool = False) -> Console:
    """A console of the standard stream, coloured only where a terminal is."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def plain() -> Console:
    from rich.console import Console

    return Console(width=PIPE_COLUMNS, highlight=False, no_color=True, force_terminal=False)


def lookup(row: Mapping[str, object], key: str) -> object:
    """`row["a"]["b"]` for `a.b`; None where something is missing."""
    value: object = row
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def text(value: object) -> str:
    """A cell's text: a dash for nothing, commas in lists."""
    if value is None or value in ("", [], {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(str, value))
    return str(value)


def safe(words: str) -> str:
    """Text of others without control characters, so that a model or a log cannot drive the terminal."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else " " for letter in words)


def number(value: object) -> str:
    return f"{value:,.0f}" if isinstance(value, int | float) else "-"


def seconds(value: object) -> str:
    """A span of seconds, as short as it can be read: `340 ms`, `4.2 s`, `3m 05s`, `2h 10m`, `3d 4h`."""
    if not isinstance(value, int | float):
        return "-"
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    if value < 59.95:
        return f"{value:.1f} s"
    return _long_span(round(value))


def _long_span(value: int) -> str:
    if value < 3600:
        return f"{value // 60}m {value % 60:02d}s"
    if value < 86400:
        return f"{value // 3600}h {value % 3600 // 60:02d}m"
    return f"{value // 86400}d {value % 86400 // 3600}h"


def size(value: object) -> str:
    """Bytes with a binary unit, as `ls -h` has them."""
    if not isinstance(value, int | float):
        return "-"
    amount = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def age(value: object) -> str:
    """How long ago a Unix time or an ISO 8601 time was."""
    moment = unix_time(value)
    if moment is None:
        return "-"
    whole = max(0, round(time.time() - moment))
    return f"{whole} s" if whole < 60 else _long_span(whole)


def clock_time(value: object) -> str:
    """A moment as local date and time."""
    moment = unix_time(value)
    return "-" if moment is None else datetime.fromtimestamp(moment, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def unix_time(value: object) -> float | None:
    """None for what is no moment (0 means never)."""
    if isinstance(value, int | float):
        return float(value) or None
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except ValueError:
        return None


def digest(value: object) -> str:
    """`sha256:` and twelve digits: enough to tell apart."""
    shown = text(value)
    return shown[: len("sha256:") + 12] if shown.startswith("sha256:") else shown
