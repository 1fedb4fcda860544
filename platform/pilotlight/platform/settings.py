"""How `pilotlight up` runs, decided once at the edge."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DEFAULT_PORT = 8484
MEMORY_SHARE = 0.8
"""Of the machine's memory: the rest is for the system, the activator and the page cache."""


QUEUE_SECONDS = 600.0
"""What a request may wait for a slot beside a whole cold start: the activator's own bound where no host sets one."""


class SettingsError(ValueError):
    """A setting that cannot be used; the message is for the user."""


@dataclass(frozen=True)
class Settings:
    """One embedded platform."""

    state: Path
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    """0: any free one; it is written to `<state>/up.json` as always."""
    memory_bytes: int | None = None
    """What all replicas may use together; None: 80 % of the machine's."""
    registry: str = ""
    """`file:///folder`, `s3`, or empty: S3 where AWS_ENDPOINT_URL_S3 is set, else `<state>/registry`."""
    cache_bytes: int = 20 * 2**30
    """Disk budget of the model cache."""
    drain_seconds: float = 120.0
    """How long running streams may take to finish when a replica leaves."""
    shutdown_seconds: float = 10.0
    """How long they may take when the platform itself ends: whoever presses Ctrl-C waits for it."""
    start_seconds: float = 1800.0
    """A cold start that takes longer is failed."""
    orphan_seconds: float = 30.0
    """Replicas outlive a killed platform so long, for the next one to adopt them."""
    max_held: int = 1000
    """Requests of one function that may wait, for a start or for a slot; each holds about 20 KiB and a descriptor."""
    allow_any_host: bool = False
    """Listen on other addresses than loopback; there is no TLS, so that is for whoever has it in front."""

    @property
    def hold_seconds(self) -> float:
        """Longest hold of a request: no start that is allowed may be refused for its length."""
        return self.start_seconds + QUEUE_SECONDS

    def __post_init__(self) -> None:
        if not self.allow_any_host and not is_loopback(self.host):
            raise SettingsError(
                f"host {self.host} is not loopback: keys and prompts would cross the network unencrypted;"
                " allow it with --allow-any-host if something in front does TLS"
            )
        if not 0 <= self.port <= 65535:
            raise SettingsError(f"port {self.port} is not between 0 and 65535")
        if self.memory_bytes is not None and self.memory_bytes <= 0:
            raise SettingsError("the memory for replicas must be more than 0")
        if self.max_held < 1:
            raise SettingsError(f"{self.max_held} requests may wait: expected at least 1")


def default_state(environment: Mapping[str, str] = os.environ) -> Path:
    """`$PILOTLIGHT_STATE`, `$XDG_STATE_HOME/pilotlight`, or `~/.local/state/pilotlight`."""
    if chosen := environment.get("PILOTLIGHT_STATE"):
        return Path(chosen).expanduser()
    if base := environment.get("XDG_STATE_HOME"):
        return Path(base).expanduser() / "pilotlight"
    return Path("~/.local/state/pilotlight").expanduser()


def registry_address(settings: Settings, environment: Mapping[str, str] = os.environ) -> str:
    """What `Shelf` is given."""
    if settings.registry:
        return settings.registry
    if environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL"):
        return "s3"
    return (settings.state.absolute() / "registry").as_uri()


def allowed_buckets(environment: Mapping[str, str] = os.environ) -> frozenset[str]:
    """`PILOTLIGHT_BUCKETS`, a list with commas: the buckets of S3 that may hold models; empty: any."""
    return frozenset(environment.get("PILOTLIGHT_BUCKETS", "").replace(",", " ").split())


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
