"""What is verified is what is seen, whoever uploads meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from pilotlight.platform.registry.guard import Guard, References
from pilotlight.platform.registry.rights import Caller
from pilotlight.runtime.models import blob_key, sha256
from pilotlight.runtime.stores import ObjectCorruptError, read_small
from pilotlight.runtime.stores.folder import FolderStore

RIGHT = b"the right bytes"
KEY = blob_key(sha256(RIGHT))


class Interrupted(FolderStore):
    """Lets something happen between the verification of an upload and its admission."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.happens: Callable[[], None] = lambda: None

    def read(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        yield from super().read(key, start, length)
        happens, self.happens = self.happens, lambda: None
        happens()


def test_bytes_are_not_exchanged_between_verification_and_admission(
    tmp_path: Path, caller: Callable[..., Caller]
) -> None:
    store = Interrupted(tmp_path)
    guard = Guard(store, References(store), caller("team-a"), "team-a/tiny")
    good, bad = guard.begin_upload(KEY), guard.begin_upload(KEY)
    good_parts, bad_parts = [guard.put_part(good, 1, RIGHT)], [guard.put_part(bad, 1, b"the wrong bytes")]

    def exchange() -> None:
        with suppress(ObjectCorruptError):
            guard.complete_upload(bad, bad_parts)

    thief = threading.Thread(target=exchange)

    def meanwhile() -> None:
        thief.start()
        thief.join(0.5)  # as long as it is given: it must wait until the first is done

    store.happens = meanwhile
    guard.complete_upload(good, good_parts)
    thief.join()

    assert read_small(store, KEY, 100) == RIGHT
