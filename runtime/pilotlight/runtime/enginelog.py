"""The engine's output: kept in a file of bounded size, given out line by line, the last lines kept at hand."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import BinaryIO

FILE_BYTES = 16 << 20
"""At this size the file is moved to `<name>.1`, replacing an older one: at most two files are kept."""
LINE_BYTES = 8192
"""What is longer is cut in pieces for reading; the file has it whole."""
KEPT_LINES = 400
TAIL_LINES = 20
_END = re.compile(rb"[\r\n]+")
_NOISE = re.compile(
    r"^\s*$|Route: /|api_utils\.py:\d+\]\s*[▄█▀ ]*$|FutureWarning|DeprecationWarning|^\s+warnings\.warn"
)


class EngineLog:
    def __init__(self, path: Path, copy: BinaryIO | None = None) -> None:
        """`copy` gets every byte too."""
        self._path, self._copy = path, copy
        self._file, self._size = _open(path)
        self._rest = b""
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)

    def feed(self, data: bytes) -> Iterator[str]:
        """Write the bytes and give out the lines that they complete; progress bars' carriage returns end lines too."""
        self._write(data)
        *whole, rest = _END.split(self._rest + data)
        if len(rest) > LINE_BYTES:
            whole.append(rest)
            rest = b""
        self._rest = rest
        for raw in whole:
            line = raw[:LINE_BYTES].decode("utf-8", "replace").rstrip()
            if line:
                self.lines.append(line)
                yield line

    def tail(self) -> tuple[str, ...]:
        """The last lines that may tell a person something."""
        useful = [line[:1000] for line in self.lines if not _NOISE.search(line)]
        return tuple(useful[-TAIL_LINES:])

    def close(self) -> None:
        self._file.close()

    def _write(self, data: bytes) -> None:
        if self._size + len(data) > FILE_BYTES:
            self._file.close()
            self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._file, self._size = _open(self._path)
        self._file.write(data)
        self._size += len(data)
        if self._copy is not None:
            self._copy.write(data)
            self._copy.flush()


def _open(path: Path) -> tuple[FileIO, int]:
    """For appending, readable by its owner alone: an engine may log prompts."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    return FileIO(handle, "ab"), os.fstat(handle).st_size
