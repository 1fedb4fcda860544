"""Importing models from a Hugging Face hub, or from the folder that one of its clients left on disk."""

from __future__ import annotations

import re
import stat
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pilotlight.platform.registry.content import PICKLES, is_pickle
from pilotlight.platform.registry.errors import BadReferenceError, ImportFailedError, ModelRefusedError
from pilotlight.platform.registry.inspection import Inspected, SourceFile, walk, well_named
from pilotlight.platform.registry.judgement import judge

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/-]{0,127}")
_WANTED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "*.md", "LICENSE*")
"""What a served model may need. Other frameworks' weights, images and pickles stay at the hub."""
_CODE = "*.py"
TIMEOUT = 30.0
"""Seconds of a hub's silence."""


@dataclass(frozen=True)
class HubRef:
    """`hf://ORG/NAME[@REVISION]`; a revision is a branch, a tag or a commit."""

    repository: str
    revision: str = "main"

    @classmethod
    def parse(cls, text: str) -> HubRef:
        """Raises BadReferenceError."""
        path = text.removeprefix("hf://")
        repository, at, revision = path.partition("@")
        names = repository.split("/")
        sound = len(names) in (1, 2) and all(_NAME.fullmatch(name) and ".." not in name for name in names)
        if path == text or not sound or (at and (not _REVISION.fullmatch(revision) or ".." in revision)):
            raise BadReferenceError(f"hub reference {text[:200]!r} is not valid: expected hf://ORG/NAME@REVISION")
        return cls(repository, revision if at else "main")

    def __str__(self) -> str:
        return f"hf://{self.repository}@{self.revision}"


class Download:
    """A model of the hub in a temporary folder, as a context manager.

    Settings are the hub client's own: HF_TOKEN (its token, never an argument), HF_ENDPOINT, HTTPS_PROXY and the like.
    """

    def __init__(self, ref: HubRef, *, trust_remote_code: bool = False, cache: Path | None = None) -> None:
        self._ref = ref
        self._trust = trust_remote_code
        self._temporary = tempfile.TemporaryDirectory(prefix="pilotlight-import-", dir=cache)

    def __enter__(self) -> Inspected:
        """Raises ImportFailedError, and ModelRefusedError as a push does."""
        try:
            folder = _snapshot(self._ref, Path(self._temporary.name), trust_remote_code=self._trust)
            return inspect_hub_folder(folder, trust_remote_code=self._trust)
        except BaseException:
            self._temporary.cleanup()
            raise

    def __exit__(self, *exception: object) -> None:
        self._temporary.cleanup()


def inspect_hub_folder(folder: Path, *, trust_remote_code: bool = False) -> Inspected:
    """A local Hugging Face folder: a clone, a `local_dir`, or a snapshot in the client's cache.

    Unlike a push it follows the cache's links from snapshots/ into blobs/ (and no other), and leaves pickles out
    where safetensors stand beside them. Raises ModelRefusedError.
    """
    if not folder.is_dir():
        raise ModelRefusedError(str(folder), ["not a folder"])
    problems: list[str] = []
    files = [file for file in (_source(folder, path, problems) for path in walk(folder)) if file]
    kept = {file.path: file for file in _without_pickles(files)}
    judged = judge(str(folder), kept, problems, trust_remote_code=trust_remote_code)
    return Inspected(tuple(kept[path] for path in sorted(kept)), judged)


def _source(folder: Path, source: Path, problems: list[str]) -> SourceFile | None:
    path = source.relative_to(folder).as_posix()
    target = source.resolve()
    if source.is_symlink() and not target.is_relative_to(_link_root(folder)):
        problems.append(f"{path}: a symbolic link that leads out of the model's own folder")
        return None
    try:
        status = target.stat()
    except OSError as error:
        problems.append(f"{path}: {error.strerror}")
        return None
    if not stat.S_ISREG(status.st_mode):
        problems.append(f"{path}: not a regular file")
        return None
    named = well_named(path, problems)
    return SourceFile(path, target, status.st_size, status.st_mtime_ns) if named else None


def _link_root(folder: Path) -> Path:
    """In the client's cache, models--ORG--NAME/snapshots/COMMIT, files are links to models--ORG--NAME/blobs."""
    real = folder.resolve()
    return real.parent.parent / "blobs" if real.parent.name == "snapshots" else real


def _without_pickles(files: Sequence[SourceFile]) -> Iterable[SourceFile]:
    safe = any(file.path.endswith(".safetensors") for file in files)
    return [file for file in files if not (safe and is_pickle(file))]


def _snapshot(ref: HubRef, folder: Path, *, trust_remote_code: bool) -> Path:
    # Takes seconds to import; only an import pays for it.
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    # The HTTPError of whichever httpx the hub client is built on.
    network = cast("type[Exception]", HfHubHTTPError.__bases__[0])
    wanted = [*_WANTED, _CODE] if trust_remote_code else list(_WANTED)
    try:
        found = huggingface_hub.snapshot_download(
            ref.repository,
            revision=ref.revision,
            local_dir=folder,
            allow_patterns=wanted,
            ignore_patterns=[f"*{ending}" for ending in sorted(PICKLES)],
            etag_timeout=TIMEOUT,
            max_workers=4,
        )
    except HfHubHTTPError as error:
        raise ImportFailedError(_explained(ref, error.response.status_code)) from error
    except (network, OSError, ValueError) as error:
        raise ImportFailedError(
            f"{ref} could not be fetched: {_first_line(error)}; check HF_ENDPOINT and the proxy settings"
        ) from error
    return Path(found)


def _first_line(error: Exception) -> str:
    """The cause; the lines under it are advice for callers of the hub's own client."""
    return str(error).partition("\n")[0].removeprefix("Got: ") or type(error).__name__


def _explained(ref: HubRef, status: int) -> str:
    if status in (401, 403):
        return f"{ref}: the hub refuses ({status}); set HF_TOKEN to a token that may read it, and accept its terms"
    if status == 404:
        return f"{ref}: the hub does not know this model or revision (404); a private one needs HF_TOKEN"
    return f"{ref}: the hub answered {status}; try again later"
