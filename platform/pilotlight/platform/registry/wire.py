"""What the two ends of the registry's HTTP share."""

from __future__ import annotations

from dataclasses import dataclass

MODIFIED = "X-Pilotlight-Modified"
"""An object's time of change, Unix seconds with a fraction, which Last-Modified cannot say."""


@dataclass(frozen=True)
class Issued:
    """An upload token, and the Unix time of its end."""

    token: str
    expires: float
