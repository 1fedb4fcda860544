"""Where the platform is and which key is shown to it; decided once, from options and the environment."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pilotlight.platform.cli.errors import REFUSED, CommandError

DEFAULT_URL = "http://127.0.0.1:8484"
DEFAULT_STATE = Path("~/.pilotlight")
ADMIN_KEY_FILE = "admin.key"


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

    The file's key is never sent to another machine. Raises CommandError for an address that is none.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CommandError(f"--url is {url!r}; expected http://HOST:PORT or https://HOST:PORT", code=REFUSED)
    key = environment.get("PILOTLIGHT_KEY", "").strip()
    if not key and is_loopback(parts.hostname):
        key = read_admin_key(state)
    return Settings(url=url.rstrip("/"), key=key, state=state)


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


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
