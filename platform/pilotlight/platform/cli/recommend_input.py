"""What `pilotlight recommend` is given: a model, accelerators, bounds and lengths, read from words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from pilotlight.platform.cli.calibrating import Calibrations, Question
from pilotlight.platform.cli.errors import REFUSED, CommandError
from pilotlight.platform.cli.models import registry
from pilotlight.platform.cli.target import target
from pilotlight.platform.cli.transfers import parse_ref, translated
from pilotlight.platform.cli.units import parse_bytes, parse_seconds
from pilotlight.platform.embedded.machine import look
from pilotlight.platform.registry.refs import ModelRef
from pilotlight.platform.registry.registry import Registry
from pilotlight.platform.settings import Settings, registry_address
from pilotlight.platform.shelf import Shelf
from pilotlight.recommender import (
    Accelerator,
    Catalogue,
    Constraints,
    Device,
    Lengths,
    ModelFacts,
    Recommendation,
    RecommenderError,
    Refusal,
    Slo,
    Tensor,
    UnknownAccelerator,
    Workload,
    read_catalogue,
    read_facts,
    read_folder,
    recommend,
)
from pilotlight.recommender.files import fingerprint, fingerprint_of
from pilotlight.recommender.probing import probe_cpu

HOST = "cpu"
"""The name of this machine's processors."""
_QUANTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?|100)")


@contextmanager
def refused() -> Iterator[None]:
    """Turn the recommender's refusals into CommandErrors (wrong usage)."""
    try:
        yield
    except RecommenderError as error:
        raise CommandError(str(error), code=REFUSED) from error


@dataclass(frozen=True)
class Model:
    """A model as far as it is known without its weights."""

    facts: ModelFacts
    fingerprint: str
    folder: Path | None = None
    """Where its weights are; None: not here."""


def read_model(context: typer.Context, model: str) -> Model:
    """A folder, a `config.json`, or a reference. Raises CommandError and RecommenderError."""
    if not model.startswith("s3://"):
        path = Path(model)
        if not path.exists():
            raise CommandError(f"there is no {model}; name a model's folder, its config.json, or s3://BUCKET/NAME:TAG")
        return Model(read_folder(path), fingerprint(path), path if path.is_dir() else None)
    ref = parse_ref(model)
    with translated():
        manifest = _registry(context, ref).resolve(ref).manifest
    tensors = {name: Tensor(one.dtype, one.shape, one.bytes) for name, one in manifest.tensors.items()}
    return Model(read_facts(manifest.config, tensors), fingerprint_of(manifest.config, tensors))


def _registry(context: typer.Context, ref: ModelRef) -> Registry:
    """Through a platform that was named; else the store that one on this machine would use."""
    chosen = target(context)
    if chosen.url:
        return registry(context, ref)
    shelf = Shelf(registry_address(Settings(state=chosen.state)), chosen.state)
    return Registry(shelf.store(ref.bucket), ref.bucket)


def accelerators(names: Sequence[str], files: Sequence[Path], memory: str, *, every: bool) -> list[Accelerator]:
    """Those that are named, all of the catalogue, or what this machine has. Raises RecommenderError."""
    catalogue = read_catalogue(files)
    found = [_host(memory) if name.lower() == HOST else catalogue.find(name) for name in names]
    if every:
        found += [entry for entry in catalogue.entries if entry not in found]
    return found or _here(catalogue, memory)


def _here(catalogue: Catalogue, memory: str) -> list[Accelerator]:
    """Of each kind of device as many as there are, else the processors."""
    return list(kinds(look().devices, catalogue)) or [_host(memory)]


def kinds(devices: Sequence[Device], catalogue: Catalogue) -> Iterator[Accelerator]:
    """Each kind of device that the catalogue knows, with the least memory of one and how many there are."""
    memory: dict[str, list[int]] = {}
    for device in devices:
        with suppress(UnknownAccelerator):
            memory.setdefault(catalogue.find(device.name).name, []).append(device.memory_bytes)
    for name, sizes in memory.items():
        yield replace(catalogue.find(name), memory_bytes=min(sizes), count=len(sizes))


def _host(memory: str) -> Accelerator:
    return probe_cpu(look(parse_bytes(memory, "--memory") if memory else None).memory_bytes, HOST)


def slo(texts: Sequence[str]) -> Slo:
    """The tightest of bounds such as `ttft=2s,itl=100ms`. Raises CommandError."""
    return Slo.strictest(_slo(text) for text in texts)


def _slo(text: str) -> Slo:
    bounds = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if name not in ("ttft", "itl") or name in bounds:
            raise CommandError(f"--slo: {part!r} is not ttft=SPAN or itl=SPAN, each once", code=REFUSED)
        bounds[name] = parse_seconds(value, f"--slo {name}")
    return Slo(**bounds)


def workload(prompt: str, answer: str, rate: float | None) -> Workload:
    """Raises CommandError and RecommenderError."""
    return Workload(_lengths(prompt, "--prompt"), _lengths(answer, "--answer"), rate=rate)


def _lengths(text: str, option: str) -> Lengths:
    parts = [f"p100={text}"] if text.isdecimal() else text.split(",")
    try:
        return Lengths(tuple(_quantile(part, option) for part in parts))
    except ValueError as error:
        raise CommandError(f"{option}: {error}", code=REFUSED) from error


def _quantile(part: str, option: str) -> tuple[float, int]:
    name, _, tokens = part.strip().partition("=")
    share = _QUANTILE.fullmatch(name)
    if share is None or not tokens.isdecimal():
        raise CommandError(
            f"{option}: {part!r} is neither a number of tokens nor pSHARE=TOKENS, as p50=500", code=REFUSED
        )
    return float(share[1]) / 100, int(tokens)


def constraints(
    facts: ModelFacts, ranks: int | None, stages: int | None, kv_dtype: str, length: int | None
) -> Constraints:
    """Raises RecommenderError."""
    return Constraints(ranks, stages, kv_dtype=kv_dtype, context=length, task=facts.task)


def calibrations(
    context: typer.Context, store: Path | None, within: str, files: Sequence[Path], *, calibrate: bool
) -> Calibrations:
    """Raises CommandError and RecommenderError."""
    seconds = parse_seconds(within, "--within") if calibrate else None
    return Calibrations(target(context).state, store, seconds, read_catalogue(files))


def rows(asked: Question, there: Sequence[Accelerator], measured: Calibrations) -> list[Recommendation | Refusal]:
    """One of each accelerator; a refusal of the only one is raised, with one that would do."""
    if len(there) == 1:
        return [_row(asked, there[0], measured, measured.catalogue.entries)]
    if measured.seconds is not None or measured.store is not None:
        raise CommandError("--calibrate and --store are of one accelerator; name it with --accelerator", code=REFUSED)
    return [_tried(asked, accelerator, measured) for accelerator in there]


def _tried(asked: Question, accelerator: Accelerator, measured: Calibrations) -> Recommendation | Refusal:
    try:
        return _row(asked, accelerator, measured)
    except RecommenderError as error:
        return Refusal(accelerator, error)


def _row(
    asked: Question, accelerator: Accelerator, measured: Calibrations, others: Sequence[Accelerator] = ()
) -> Recommendation:
    facts, bounds, workload = asked.facts, asked.slo, asked.workload
    known = measured.known(asked, accelerator)
    if known is None:
        return recommend(facts, accelerator, None, bounds, workload, asked.constraints, others=others)
    made = recommend(facts, accelerator, known.performance, bounds, workload, known.constraints, others=others)
    return replace(made, notes=(known.note, *made.notes))
