"""Tokenizers of the models that are routed to, fetched once and in the background."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog

from pilotlight.activator.values import Caller, Clock
from pilotlight.platform.control.errors import PlatformError
from pilotlight.platform.manifest.references import parse_reference
from pilotlight.platform.shelf import Shelf

TOGETHER = 2
RETRY_SECONDS = 30.0
EVERYTHING = Caller("activator", None, admin=True)
"""Whoever calls the function may have its prompt counted; the weights are not read here."""

log = structlog.get_logger(__name__)


class Tokenizers:
    """Ask with `folder`; until one is there, the engine checks the lengths itself."""

    def __init__(self, shelf: Shelf, clock: Clock, arrived: Callable[[], None]) -> None:
        """`arrived` is called, from a thread, when there is a new one."""
        self._shelf = shelf
        self._clock = clock
        self._arrived = arrived
        self._folders: dict[str, Path | None] = {}
        self._again: dict[str, float] = {}
        self._threads = ThreadPoolExecutor(TOGETHER, thread_name_prefix="tokenizers")

    def folder(self, source: str) -> Path | None:
        """`source`: reference of the model by its digest; empty: it has no tokenizer."""
        if not source or source in self._folders:
            return self._folders.get(source)
        if self._clock.monotonic() >= self._again.get(source, 0.0):
            self._again[source] = math.inf  # not before this try has ended
            self._threads.submit(self._fetch, source)
        return None

    def awaits(self, source: str) -> bool:
        """Whether `folder` is to be asked again: its answer is not the last one."""
        return bool(source) and source not in self._folders

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _fetch(self, source: str) -> None:
        try:
            found = self._shelf.tokenizer(self._shelf.find(parse_reference(source), EVERYTHING))
        except (PlatformError, OSError) as error:
            self._again[source] = self._clock.monotonic() + RETRY_SECONDS
            log.warning("no tokenizer yet; the engine checks lengths", model=source, error=str(error))
            return
        self._folders[source] = Path(found) if found else None
        self._arrived()
