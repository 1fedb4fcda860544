"""The registry's own code over the platform's API: opened, watched, interrupted, and its errors made the command's."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from pilotlight.platform.cli.errors import REFUSED, CommandError
from pilotlight.platform.cli.output import terminal
from pilotlight.platform.registry.errors import BadReferenceError, ModelRefusedError, RegistryError
from pilotlight.platform.registry.inspection import Inspected
from pilotlight.platform.registry.push import Progress as Step
from pilotlight.platform.registry.push import Report
from pilotlight.platform.registry.refs import ModelRef
from pilotlight.runtime.models import BadManifestError
from pilotlight.runtime.stores import StoreError


class _StoppedError(Exception):
    """Ends a worker thread at its next step, so that Ctrl-C does not wait for whole files."""


def parse_ref(text: str) -> ModelRef:
    """Raises CommandError (wrong usage)."""
    try:
        return ModelRef.parse(text)
    except BadReferenceError as error:
        raise CommandError(str(error), code=REFUSED) from error


@contextmanager
def opened(source: str, *, trust_remote_code: bool) -> Iterator[Inspected]:
    """A hub's model in a temporary folder, or a local folder; inspected. Raises CommandError."""
    if not sys.stderr.isatty():
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    from pilotlight.platform.registry.hub import Download, HubRef, inspect_hub_folder

    with ExitStack() as stack:
        with translated():
            if source.startswith("hf://"):
                found = stack.enter_context(Download(HubRef.parse(source), trust_remote_code=trust_remote_code))
            else:
                found = inspect_hub_folder(Path(source), trust_remote_code=trust_remote_code)
        yield found


@contextmanager
def translated() -> Iterator[None]:
    """Turn errors of registry and store into CommandErrors."""
    try:
        yield
    except ModelRefusedError as error:
        sentence = str(error).partition("\n")[0].rstrip(":")
        raise CommandError(sentence, details=error.problems) from error
    except BadReferenceError as error:
        raise CommandError(str(error), code=REFUSED) from error
    except (RegistryError, StoreError, BadManifestError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise CommandError(f"{where}{error.strerror or error}") from error


@contextmanager
def watched(*, shown: bool = True) -> Iterator[Report]:
    """A report for a transfer: a bar where stderr is a terminal; Ctrl-C stops the workers at their next step."""
    stop = threading.Event()
    with _stopping(stop), translated(), _bar(shown=shown and sys.stderr.isatty()) as draw:

        def report(step: Step) -> None:
            if stop.is_set():
                raise _StoppedError
            draw(step)

        yield report


@contextmanager
def _stopping(stop: threading.Event) -> Iterator[None]:
    def interrupt(_number: int, _frame: object) -> NoReturn:
        stop.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _bar(*, shown: bool) -> Iterator[Report]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=terminal(stderr=True), transient=True, disable=not shown) as progress:
        task = progress.add_task("", total=None)
        yield lambda step: progress.update(task, description=step.stage, completed=step.done, total=step.total)
