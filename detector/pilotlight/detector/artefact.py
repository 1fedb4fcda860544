"""Models as files: safetensors with the arrays, and in its metadata what they were made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pilotlight.detector.model import Columns, Model, Profile
from pilotlight.detector.network import Network
from pilotlight.detector.scaling import Scaling

FORMAT = "pilotlight-detector-1"
LARGEST_FILE = 64 << 20
_KEY = "pilotlight"
_NETWORK = "network/"
_PROFILES = "profiles/"
_PARTS = ("centre", "width", "bias", "spread", "usual", "level")

Arrays = Mapping[str, NDArray[Any]]


class ArtefactRefused(ValueError):  # noqa: N818 - a verdict, not a failure
    """A file that is no model of this format; the message names the file, what was expected and what was found."""


@dataclass(frozen=True)
class Origin:
    """What a model was trained on."""

    start: float
    """Unix time of the first window."""
    end: float
    windows: int
    incidents: int
    """Labelled windows among them."""
    seed: int


@dataclass(frozen=True)
class Artefact:
    """A model with the profiles of the revisions that it knows, by name."""

    model: Model
    profiles: Mapping[str, Profile]
    origin: Origin


def write(artefact: Artefact, file: Path) -> str:
    """Write the file; its version is the SHA-256 of its bytes, the same for equal artefacts. Raises OSError."""
    content = save(_arrays(artefact), metadata={_KEY: json.dumps(_facts(artefact), sort_keys=True)})
    file.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def read(file: Path) -> Artefact:
    """Raises ArtefactRefused."""
    facts, arrays = _opened(file)
    if facts.get("format") != FORMAT:
        raise ArtefactRefused(f"{file}: expected format {FORMAT}, found {facts.get('format')!r}")
    try:
        return _artefact(facts, arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactRefused(f"{file} is no whole model of format {FORMAT}: {error}") from error


def _opened(file: Path) -> tuple[Mapping[str, Any], Arrays]:
    try:
        if (size := file.stat().st_size) > LARGEST_FILE:
            raise ArtefactRefused(f"{file}: expected at most {LARGEST_FILE} bytes, found {size}")
        with safe_open(file, framework="numpy") as opened:
            facts = json.loads((opened.metadata() or {}).get(_KEY, "{}"))
            return facts, {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise ArtefactRefused(f"{file} cannot be read as safetensors: {error}") from error


def _facts(artefact: Artefact) -> Mapping[str, object]:
    return {
        "format": FORMAT,
        "names": artefact.model.names,
        "columns": asdict(artefact.model.columns),
        "profiles": sorted(artefact.profiles),
        "origin": asdict(artefact.origin),
    }


def _arrays(artefact: Artefact) -> dict[str, NDArray[Any]]:
    rows = [_row(artefact.profiles[name]) for name in sorted(artefact.profiles)]
    stacked = {part: np.stack([row[part] for row in rows]) for part in _PARTS} if rows else {}
    weights = {_NETWORK + name: np.ascontiguousarray(value) for name, value in artefact.model.network.weights.items()}
    return weights | {_PROFILES + part: value for part, value in stacked.items()}


def _row(profile: Profile) -> Mapping[str, NDArray[np.float64]]:
    return {
        "centre": profile.scaling.centre,
        "width": profile.scaling.width,
        "bias": profile.bias,
        "spread": profile.spread,
        "usual": np.array(profile.usual),
        "level": np.array(profile.level),
    }


def _artefact(facts: Mapping[str, Any], arrays: Arrays) -> Artefact:
    network = {name.removeprefix(_NETWORK): value for name, value in arrays.items() if name.startswith(_NETWORK)}
    columns = Columns(tuple(facts["columns"]["judged"]), tuple(facts["columns"]["load"]))
    model = Model(tuple(facts["names"]), columns, Network(network))
    if (model.network.metrics, model.network.conditions) != (len(columns.judged), len(columns.load)):
        raise ValueError("the network has other metrics than the file names")
    profiles = {}
    for place, name in enumerate(facts["profiles"]):
        centre, width, bias, spread, usual, level = (arrays[_PROFILES + part][place] for part in _PARTS)
        profiles[name] = Profile(Scaling(centre, width), bias, spread, float(usual), float(level))
    return Artefact(model, profiles, Origin(**facts["origin"]))
