"""Public measurements of engines: a CSV of one row per model, accelerator, settings, lengths and batch size."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pilotlight.recommender.accelerators import Catalogue, UnknownAccelerator
from pilotlight.recommender.errors import RecommenderError
from pilotlight.recommender.facts import ModelFacts, config_facts
from pilotlight.recommender.memory import MemoryRequest, resident
from pilotlight.recommender.roofline import Setup
from pilotlight.recommender.shape import known_configs, shape_of

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
_INT4 = {"num_bits": 4, "group_size": 32, "type": "int"}
# What `config.json` says of weights in these formats; the KV cache has one byte per value beside all but integers.
_FORMATS: Mapping[str, Mapping[str, object]] = {
    "fp8": {"quant_method": "fp8"},
    "nvfp4": {"quant_method": "modelopt", "quant_algo": "NVFP4"},
    "mxfp4": {"quant_method": "mxfp4"},
    "int4_wo": {"quant_method": "compressed-tensors", "config_groups": {"": {"weights": _INT4}}},
}
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
    quantization = _quantization(row)
    facts = _facts(row.setting("model_path"), quantization)
    try:
        accelerator = catalogue.find(row.setting("system"))
    except UnknownAccelerator:
        return None
    if facts is None:
        return None
    ranks, copies = int(row.setting("tp_size")), int(row.setting("attention_dp_size") or 1) or 1
    prompt, answer = float(row.setting("isl")), float(row.setting("osl"))
    cached = "fp8" if facts.arithmetic != "bf16" else "auto"
    wanted = MemoryRequest(ranks=ranks, expert_ranks=ranks * copies, kv_dtype=cached)
    return Setup(
        shape=shape_of(facts),
        accelerator=accelerator,
        prompt=prompt,
        answer=answer,
        tensor_parallel=ranks,
        data_parallel=copies,
        kv_bytes=1.0 if cached == "fp8" else 2.0,
        number_format=facts.arithmetic,
        resident=max(1.0, resident(facts, accelerator, wanted, math.ceil(prompt + answer))),
    )


@cache
def _facts(model: str, quantization: str) -> ModelFacts | None:
    config = known_configs().get(model)
    packing = _FORMATS.get(quantization)
    if config is None:
        return None
    return config_facts({**config, **({"quantization_config": packing} if packing else {})})


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
