"""ServeGen's lengths: per client and window of six hours, how likely each prompt and answer length is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pilotlight.platform.simulate.arrivals.archive import members
from pilotlight.platform.simulate.arrivals.lengths import SAME, Same
from pilotlight.platform.simulate.arrivals.text import MOST_TOKENS
from pilotlight.platform.simulate.arrivals.values import Counts, Floats
from pilotlight.platform.simulate.errors import TraceRefused

# A dictionary of Python, written as text: `{34: 0.0019, 35: 0.0513}`. It is matched and never evaluated.
_ENTRIES = re.compile(r"(\d{1,9}): ?([0-9.]+(?:e-?\d+)?)")
_FORM = re.compile(r"\{(?:[^{}]*)\}")


@dataclass(frozen=True)
class Density:
    """Lengths and the shares of requests that are no longer."""

    tokens: Counts
    upto: Floats

    def draw(self, random: np.random.Generator, count: int) -> Counts:
        return self.tokens[np.searchsorted(self.upto, random.random(count), side="right")]


@dataclass(frozen=True)
class Densities:
    """Each client's own lengths at each time; prompts and answers are drawn independently, as they are published."""

    windows: Mapping[str, tuple[Floats, list[tuple[Density, Density]]]]
    """By client: when windows begin (seconds), and prompt and answer lengths in each."""
    otherwise: Same = SAME
    """For clients without any."""

    def draw(self, random: np.random.Generator, count: int, function: str, time: float) -> tuple[Counts, Counts]:
        starts, densities = self.windows.get(function, (None, []))
        if starts is None or not densities:
            return self.otherwise.draw(random, count, function, time)
        at = max(0, int(np.searchsorted(starts, time, side="right")) - 1)
        prompt, answer = densities[at]
        return prompt.draw(random, count), answer.draw(random, count)


def read_densities(file: Path) -> Densities:
    """A `*-datasets.tar.xz` with `chunk-<client>-dataset.json`. Raises TraceRefused."""
    found: dict[str, tuple[Floats, list[tuple[Density, Density]]]] = {}
    for number, name, text in members(file, "dataset.json"):
        rows = sorted(_windows(file, name, _object(file, name, text)), key=lambda row: row[0])
        if rows:
            found[f"client-{number}"] = np.array([start for start, _, _ in rows]), [(p, a) for _, p, a in rows]
    if not found:
        raise TraceRefused(file, "has no lengths in any chunk-<client>-dataset.json")
    return Densities(found)


def _object(file: Path, name: str, content: str) -> Mapping[str, Any]:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise TraceRefused(file, f"{name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise TraceRefused(file, f"{name} is not an object of windows")
    return value


def _windows(file: Path, name: str, content: Mapping[str, Any]) -> Iterator[tuple[float, Density, Density]]:
    """The windows in which anything was seen."""
    for start, lengths in content.items():
        where = f"{name}, window {start[:20]}"
        if not start.isdigit() or not isinstance(lengths, dict):
            raise TraceRefused(file, "expected seconds, and an object of lengths", field=where)
        both = [_density(file, where, key, lengths.get(key)) for key in ("input_tokens", "output_tokens")]
        if both[0] and both[1]:
            yield float(start), both[0], both[1]


def _density(file: Path, where: str, key: str, text: object) -> Density | None:
    """None: nothing was seen."""
    if not isinstance(text, str) or not _FORM.fullmatch(text):
        raise TraceRefused(file, f"expected a text of lengths with their shares, found {str(text)[:40]!r}", field=where)
    pairs = _ENTRIES.findall(text)
    tokens = np.array([int(length) for length, _ in pairs], dtype=np.int64)
    shares = np.array([float(share) for _, share in pairs])
    if not len(pairs) or not shares.sum() > 0:
        return None
    if tokens.max() > MOST_TOKENS:
        raise TraceRefused(file, f"{key}: a length above {MOST_TOKENS:,} tokens", field=where)
    upto = np.cumsum(shares) / shares.sum()
    upto[-1] = 1.0
    return Density(np.maximum(tokens, 1), upto)
