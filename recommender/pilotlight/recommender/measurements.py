"""Public measurements of engines: a CSV of one row per model, accelerator, settings, lengths and batch size."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pilotlight.recommender.accelerators import Catalogue, UnknownAccelerator
from pilotlight.recommender.errors import RecommenderError
from pilotlight.recommender.roofline import Setup
from pilotlight.recommender.shape import known_shapes

TARGETS = ("silicon_ttft_ms", "silicon_tpot_ms")
SETTINGS = (
    "backend_version",
    "model_path",
    "system",
    "precision",
    "isl",
    "osl",
    "gemm_quant_mode",
    "moe_quant_mode",
    "tp_size",
    "pp_size",
    "attention_dp_size",
    "moe_tp_size",
    "moe_ep_size",
)
COLUMNS = ("id", *SETTINGS, "batch_size", *TARGETS)
# Bytes per parameter with its scales, the format of its products, and bytes per cached value. Scales: one byte per 16
# values (nvfp4) or 32 (mxfp4), two bytes per 32 (int4).
_FORMATS = {
    "fp8": (1.0, "fp8", 1.0),
    "nvfp4": (0.5625, "fp4", 1.0),
    "mxfp4": (0.53125, "fp4", 1.0),
    "int4_wo": (0.5625, "bf16", 2.0),
}
_PLAIN = (2.0, "bf16", 2.0)
_WHOLE = ("tp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")
_LARGEST_FILE = 2**26


class DataRefused(RecommenderError):  # noqa: N818 - a verdict, not a failure
    """A file of measurements cannot be used; the message names the file, the line and the column."""


@dataclass(frozen=True)
class Measurement:
    """One row."""

    settings: tuple[str, ...]
    """The values of `SETTINGS`."""
    batch: float
    """Requests in flight per copy of the attention part."""
    ttft: float
    """Seconds."""
    itl: float
    """Seconds per token after the first."""

    def setting(self, column: str) -> str:
        return self.settings[SETTINGS.index(column)]


def read_measurements(file: Path) -> list[Measurement]:
    """Every distinct row: rows that differ in nothing but their id are copies of one measurement.

    Raises:
        DataRefused: The file cannot be read or has no rows, a column is missing, a value is no number above zero.
    """
    try:
        if file.stat().st_size > _LARGEST_FILE:
            raise DataRefused(f"{file} is larger than 64 MiB")
        with file.open(newline="", encoding="utf-8-sig") as stream:
            return _rows(csv.DictReader(stream), file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataRefused(f"{file} cannot be read as CSV: {reason}") from error


def groups(rows: Iterable[Measurement], least: int) -> list[list[Measurement]]:
    """Rows that differ in nothing but the batch size and what was measured, where there are `least` batch sizes."""
    found: dict[tuple[str, ...], list[Measurement]] = defaultdict(list)
    for row in rows:
        found[row.settings].append(row)
    return [group for group in found.values() if len({row.batch for row in group}) >= least]


def setup_of(row: Measurement, catalogue: Catalogue) -> Setup | None:
    """What the roofline needs to know of a row; None where its model or accelerator is unknown."""
    shape = known_shapes().get(row.setting("model_path"))
    try:
        accelerator = catalogue.find(row.setting("system"))
    except UnknownAccelerator:
        return None
    if shape is None:
        return None
    weights, number_format, cached = _FORMATS.get(_quantization(row), _PLAIN)
    return Setup(
        shape=shape,
        accelerator=accelerator,
        prompt=float(row.setting("isl")),
        answer=float(row.setting("osl")),
        tensor_parallel=int(row.setting("tp_size")),
        data_parallel=int(row.setting("attention_dp_size") or 1) or 1,
        weight_bytes=weights,
        kv_bytes=cached,
        number_format=number_format,
    )


def _quantization(row: Measurement) -> str:
    return row.setting("gemm_quant_mode") or ("fp8" if row.setting("model_path").upper().endswith("FP8") else "")


def _rows(reader: csv.DictReader[str], file: Path) -> list[Measurement]:
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise DataRefused(f"{file} lacks the columns {', '.join(missing)}; it needs {', '.join(COLUMNS)}")
    rows = list(dict.fromkeys(_row(fields, f"{file}, line {reader.line_num}") for fields in reader))
    if not rows:
        raise DataRefused(f"{file} has a header and no rows")
    return rows


def _row(fields: Mapping[str, str | None], where: str) -> Measurement:
    for column in ("isl", "osl", "tp_size"):
        _number(fields, column, where)
    for column in ("attention_dp_size", "moe_tp_size", "moe_ep_size"):
        if fields[column] not in ("", "0", None):
            _number(fields, column, where)
    return Measurement(
        settings=tuple(fields[column] or "" for column in SETTINGS),
        batch=_number(fields, "batch_size", where),
        ttft=_number(fields, "silicon_ttft_ms", where) / 1000,
        itl=_number(fields, "silicon_tpot_ms", where) / 1000,
    )


def _number(fields: Mapping[str, str | None], column: str, where: str) -> float:
    text = fields[column] or ""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    whole = column in _WHOLE
    if not 0 < number < math.inf or (whole and not text.isdecimal()):
        raise DataRefused(f"{where}, {column}: {text!r} is not a {'whole ' if whole else ''}number above zero")
    return number


def batches(group: Sequence[Measurement]) -> list[float]:
    return sorted({row.batch for row in group})
