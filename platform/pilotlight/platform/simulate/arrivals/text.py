"""Lines and CSV rows of a file that may be compressed, one at a time; every refusal names the line and the column."""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from pilotlight.platform.simulate.errors import TraceRefused

LONGEST_LINE = 2**20
"""Characters. A day of minutes is some 10 KB; a file without line ends must not fill the memory."""
MOST_TOKENS = 10_000_000
"""In one request: ten times the longest contexts there are."""
_OPENERS: Mapping[str, Callable[..., Any]] = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}
UNREADABLE = (OSError, EOFError, lzma.LZMAError, zlib.error, UnicodeDecodeError)
"""What reading a file that is absent, damaged or no text raises."""


class Row:
    """One line's fields by their columns' names."""

    def __init__(self, file: Path, line: int, fields: Mapping[str, str]) -> None:
        self.file, self.line, self._fields = file, line, fields

    def has(self, column: str) -> bool:
        return column in self._fields

    def text(self, column: str) -> str:
        value = self._fields[column]
        if not value:
            raise self.refused(column, "is empty")
        return value

    def number(self, column: str) -> float:
        """A finite number, at least 0."""
        value = self.text(column)
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 <= number < math.inf:
            raise self.refused(column, f"expected a number of at least 0, found {value[:40]!r}")
        return number

    def tokens(self, column: str) -> int:
        """A count of tokens; an empty answer counts as one token, which takes as long."""
        value = self.text(column)
        if not value.isascii() or not value.isdigit() or int(value[:12]) > MOST_TOKENS:
            raise self.refused(column, f"expected whole tokens, at most {MOST_TOKENS:,}, found {value[:40]!r}")
        return max(1, int(value))

    def refused(self, column: str, problem: str) -> TraceRefused:
        return TraceRefused(self.file, problem, self.line, column)


def rows(file: Path, needed: Sequence[str]) -> Iterator[Row]:
    """The rows under a header that has the columns `needed`; others are passed on. Raises TraceRefused."""
    split = split_lines(file)
    _, header = next(split, (1, []))
    if missing := [name for name in needed if name not in header]:
        found = ",".join(header)[:120] or "nothing"
        raise TraceRefused(file, f"the header lacks {', '.join(missing)}; it has {found}", 1)
    for number, fields in split:
        if len(fields) != len(header):
            raise TraceRefused(file, f"{len(fields)} fields, the header has {len(header)}", number)
        yield Row(file, number, dict(zip(header, fields, strict=True)))


def split_lines(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Numbers from 1 and fields of the lines that are not empty. Raises TraceRefused."""
    for number, line in lines(file):
        yield number, next(csv.reader([line]))


def lines(file: Path) -> Iterator[tuple[int, str]]:
    """Numbers from 1 and text of the lines that are not empty. Raises TraceRefused."""
    with opened(file) as stream:
        number = 0
        while line := stream.readline(LONGEST_LINE):
            number += 1
            if len(line) == LONGEST_LINE:
                raise TraceRefused(file, f"longer than {LONGEST_LINE:,} characters", number)
            if stripped := line.strip():
                yield number, stripped


@contextmanager
def opened(file: Path) -> Iterator[TextIO]:
    """The file as text, decompressed by its suffix. Raises TraceRefused."""
    try:
        with _OPENERS.get(file.suffix, open)(file, "rb") as content:
            yield TextIOWrapper(cast("BinaryIO", content), encoding="utf-8-sig")
    except UNREADABLE as error:
        reason = getattr(error, "strerror", None) or str(error) or "it ends too early"
        raise TraceRefused(file, f"cannot be read: {reason}") from error
