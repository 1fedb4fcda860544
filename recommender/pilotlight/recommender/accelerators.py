"""The catalogue of accelerators: memory, bandwidth and arithmetic, each entry with its source; own entries by file."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from pilotlight.recommender.errors import RecommenderError

_FORMATS = ("bf16", "fp16", "fp32", "fp8", "int8", "fp4")
_NEEDED = frozenset({"memory", "bandwidth", "flops", "source"})
_KNOWN = _NEEDED | {"aliases", "price", "price_source", "kind"}
_KINDS = ("gpu", "cpu")
_LARGEST_FILE = 2**20


class UnknownAccelerator(RecommenderError):  # noqa: N818 - a verdict, not a failure
    """Nobody has entered an accelerator of this name.

    Args:
        name: What was asked for.
        nearest: Names in the catalogue that resemble it, the closest first; all of them where none does.
    """

    def __init__(self, name: str, nearest: tuple[str, ...]) -> None:
        super().__init__(f"no accelerator {name!r} in the catalogue; the nearest: {', '.join(nearest)}")
        self.name = name
        self.nearest = nearest


class CatalogueRefused(RecommenderError):  # noqa: N818 - a verdict, not a failure
    """A file of accelerators cannot be used; the message names the file, the entry and the field."""


@dataclass(frozen=True)
class Accelerator:
    """One device."""

    name: str
    memory_bytes: int
    bandwidth: float
    """Of its memory, bytes per second."""
    flops: Mapping[str, float]
    """Dense operations per second by number format: bf16, fp8, fp4 ..."""
    source: str
    price: float | None = None
    """US dollars per hour."""
    price_source: str | None = None
    aliases: tuple[str, ...] = field(default=())
    kind: str = "gpu"
    """`cpu`: the processors of a machine, with the memory that replicas may use."""
    probed: bool = False
    """It is this machine's processors as `probing.probe_cpu` found them, not an entry of a catalogue."""
    count: int | None = None
    """How many there are for one replica; None: as many as it takes."""

    def arithmetic(self, number_format: str) -> float:
        """Operations per second; of 16 bits where the device has no units for the format."""
        formats = (number_format, "bf16", "fp16", "fp32")
        return next(self.flops[name] for name in formats if name in self.flops)


@dataclass(frozen=True)
class Catalogue:
    """Accelerators by normalized name and alias."""

    entries: tuple[Accelerator, ...]

    def find(self, name: str) -> Accelerator:
        """The accelerator of this name or alias; case, spaces, `_`, a vendor's name and "GPU" do not matter.

        Raises:
            UnknownAccelerator: There is none.
        """
        names = {_normal(known): entry for entry in self.entries for known in (entry.name, *entry.aliases)}
        found = names.get(_normal(name))
        if found is None:
            raise UnknownAccelerator(name, self._nearest(names, name))
        return found

    def _nearest(self, names: Mapping[str, Accelerator], name: str) -> tuple[str, ...]:
        close = difflib.get_close_matches(_normal(name), names, n=6, cutoff=0.4)
        return tuple(dict.fromkeys(names[known].name for known in close)) or tuple(entry.name for entry in self.entries)


@cache
def builtin() -> Catalogue:
    """The entries that come with the package."""
    return Catalogue(tuple(_entry(name, fields, "accelerators.yaml") for name, fields in _packaged().items()))


def read_catalogue(files: Iterable[Path]) -> Catalogue:
    """The built-in entries and those of `files`.

    An entry of a known name changes the fields that it gives, as a price of one's own, and leaves the others.

    Raises:
        CatalogueRefused: A file cannot be read, is too large, or has an entry that is not one.
    """
    known, entries = dict(_packaged()), {entry.name: entry for entry in builtin().entries}
    for file in files:
        for name, fields in _mappings(_text(file), str(file)).items():
            known[name] = _over(known.get(name, {}), fields, str(file))
            entries[name] = _entry(name, known[name], str(file))
    return Catalogue(tuple(entries.values()))


def _over(known: Mapping[str, Any], fields: Mapping[str, Any], file: str) -> Mapping[str, Any]:
    """A price is from the file that names it, unless that says better."""
    return {**known, **({"price_source": file} if "price" in fields else {}), **fields}


@cache
def _packaged() -> Mapping[str, Mapping[str, Any]]:
    source = resources.files("pilotlight.recommender").joinpath("data/accelerators.yaml")
    return _mappings(source.read_text(), "accelerators.yaml")


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > _LARGEST_FILE:
            raise CatalogueRefused(f"{file} is larger than a catalogue of accelerators can be (1 MiB)")
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogueRefused(f"{file} cannot be read: {_reason(error)}") from error


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "it is not UTF-8"


def _mappings(text: str, file: str) -> Mapping[str, Mapping[str, Any]]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CatalogueRefused(f"{file} is not YAML: {error}") from error
    if not isinstance(content, Mapping):
        raise CatalogueRefused(f"{file} is not a mapping from names to accelerators")
    for name, fields in content.items():
        if not isinstance(fields, Mapping):
            raise CatalogueRefused(f"{file}, {name}: is not a mapping with {', '.join(sorted(_NEEDED))}")
    return {str(name): fields for name, fields in content.items()}


def _entry(name: str, fields: Mapping[str, Any], file: str) -> Accelerator:
    where = f"{file}, {name}"
    if missing := _NEEDED - fields.keys():
        raise CatalogueRefused(f"{where}: lacks {', '.join(sorted(missing))}")
    if unknown := fields.keys() - _KNOWN:
        raise CatalogueRefused(f"{where}: {', '.join(map(str, unknown))} is none of {', '.join(sorted(_KNOWN))}")
    price, kind = fields.get("price"), fields.get("kind", "gpu")
    if kind not in _KINDS:
        raise CatalogueRefused(f"{where}, kind: {kind!r} is none of {', '.join(_KINDS)}")
    return Accelerator(
        name=name,
        memory_bytes=int(_positive(fields["memory"], f"{where}, memory")),
        bandwidth=_positive(fields["bandwidth"], f"{where}, bandwidth"),
        flops=_flops(fields["flops"], where),
        source=str(fields["source"]),
        price=None if price is None else _positive(price, f"{where}, price"),
        price_source=str(fields["price_source"]) if "price_source" in fields else None,
        aliases=tuple(map(str, fields.get("aliases") or ())),
        kind=kind,
    )


def _flops(fields: Any, where: str) -> Mapping[str, float]:
    if not isinstance(fields, Mapping) or not fields.keys() & {"bf16", "fp16", "fp32"} or fields.keys() - set(_FORMATS):
        raise CatalogueRefused(f"{where}, flops: a mapping of {', '.join(_FORMATS)}, bf16, fp16 or fp32 among them")
    return {name: _positive(value, f"{where}, flops.{name}") for name, value in fields.items()}


def _positive(value: Any, where: str) -> float:
    """YAML 1.1 reads `3e12` as text, so text that is a number counts as one."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not 0 < number < math.inf:
        raise CatalogueRefused(f"{where}: {value!r} is not a number above zero")
    return number


def _normal(name: str) -> str:
    words = re.findall(r"[a-z0-9]+", name.lower())
    return "-".join(word for word in words if word not in ("nvidia", "amd", "gpu", "tensor", "core", "instinct"))
