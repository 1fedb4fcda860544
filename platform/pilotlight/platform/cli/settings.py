"""Where the platform is and which key is shown to it; decided once, from options and the environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pilotlight.platform.cli.errors import REFUSED, CommandError
from pilotlight.platform.settings import DEFAULT_PORT, is_loopback

DEFAULT_URL = f"http://127.0.0.1:{DEFAULT_PORT}"
ADMIN_KEY_FILE = "admin.key"
UP_FILE = "up.json"


@dataclass(frozen=True)
class Settings:
    """One command's view of the outside."""

    url: str
    """`http://HOST:PORT` without a slash at the end."""
    key: str
    """Bearer secret; empty where there is none."""
    state: Path
    """Folder of an embedded platform on this machine."""


def resolve(url: str, state: Path, environment: Mapping[str, str]) -> Settings:
    """PILOTLIGHT_KEY counts first; for a platform on this machine the admin key of its state folder follows.

    An empty `url` is what the platform of the state folder announced, else DEFAULT_URL. The file's key is never sent
    to another machine. Raises CommandError for an address that is none.
    """
    chosen = url or announced(state).url or DEFAULT_URL
    parts = urlsplit(chosen)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CommandError(f"--url is {url!r}; expected http://HOST:PORT or https://HOST:PORT", code=REFUSED)
    key = environment.get("PILOTLIGHT_KEY", "").strip()
    if not key and is_loopback(parts.hostname):
        key = read_admin_key(state)
    return Settings(url=chosen.rstrip("/"), key=key, state=state)


@dataclass(frozen=True)
class Announced:
    """What a running platform wrote to its state folder."""

    url: str = ""
    process: int = 0


def announced(state: Path) -> Announced:
    """Empty where nothing runs, or what is written cannot be read."""
    try:
        known = json.loads((state / UP_FILE).read_text(encoding="utf-8"))
        return Announced(str(known["url"]), int(known["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Announced()


def read_admin_key(state: Path) -> str:
    """The key that `pilotlight up` wrote; empty where there is no file."""
    path = state / ADMIN_KEY_FILE
    try:
        return path.read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise CommandError(
            f"{path} cannot be read ({error.strerror}); run as the user who started `pilotlight up`, or set "
            "PILOTLIGHT_KEY"
        ) from error
