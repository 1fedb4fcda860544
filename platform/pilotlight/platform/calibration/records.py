"""Where calibrations are kept: one file for each subject."""

from __future__ import annotations

from pathlib import Path
from tempfile import NamedTemporaryFile

from pilotlight.recommender.calibration import RECORD_BYTES, Record, RecordRefused, Subject, check, dump, parse
from pilotlight.runtime.board import write_atomically

FOLDER = "calibrations"


class RecordFile:
    """One file; its owner alone may read it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @staticmethod
    def of(subject: Subject, state: Path) -> RecordFile:
        """The one in a state folder."""
        return RecordFile(state / FOLDER / f"{subject.name}.json")

    def read(self, subject: Subject) -> Record | None:
        """What was measured of `subject`; None: nothing yet. Raises RecordRefused."""
        try:
            with self.path.open("rb") as file:
                data = file.read(RECORD_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RecordRefused(str(self.path), f"it cannot be read ({error.strerror})") from error
        return check(parse(data, str(self.path)), subject, str(self.path))

    def try_writing(self) -> None:
        """As `write` would, with the largest record, and leave nothing. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with NamedTemporaryFile(dir=self.path.parent, prefix=f".{self.path.name}.") as file:
            file.write(bytes(RECORD_BYTES))
            file.flush()

    def write(self, record: Record) -> None:
        """Replace it as a whole. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(self.path, dump(record))
