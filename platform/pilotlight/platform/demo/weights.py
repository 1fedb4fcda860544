"""The demo's model: in the registry already, or converted and pushed once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pilotlight.platform.cli.errors import CommandError
from pilotlight.platform.cli.settings import Settings
from pilotlight.platform.cli.transfers import translated, watched
from pilotlight.platform.registry.errors import ModelNotFoundError
from pilotlight.platform.registry.refs import ModelRef
from pilotlight.platform.registry.registry import Registry
from pilotlight.platform.registry.remote import RemoteStore
from pilotlight.runtime.models import ModelManifest

CONVERSION_SECONDS = 600.0
LOG_LINES = 10
_CONVERT = (
    "import sys, pathlib; from pilotlight.platform.demo.model import convert_smollm2; "
    "convert_smollm2(pathlib.Path(sys.argv[1]))"
)


@dataclass(frozen=True)
class Weights:
    """A model in the registry; `fresh` when this run has pushed it."""

    manifest: ModelManifest
    fresh: bool


def ensure_model(settings: Settings, ref: ModelRef, say: Callable[[str], None]) -> Weights:
    """Convert and push the packaged SmolLM2 unless `ref` is in the registry."""
    registry = Registry(RemoteStore(settings.url, settings.key, ref.bucket, ref.repository), ref.bucket)
    known = resolve(registry, ref)
    if known is not None:
        return Weights(known, fresh=False)
    scratch = settings.state / "converted"
    say("converting the packaged SmolLM2-135M-Instruct to safetensors, once")
    folder = convert(scratch / "smollm2-135m-instruct")
    with watched() as report:
        manifest = registry.push(folder, ref, report)
    shutil.rmtree(scratch)  # the registry has every byte of it
    return Weights(manifest, fresh=True)


def resolve(registry: Registry, ref: ModelRef) -> ModelManifest | None:
    with translated():
        try:
            return registry.resolve(ref).manifest
        except ModelNotFoundError:
            return None


def convert(folder: Path) -> Path:
    """In a process of its own: what torch and transformers take is given back before the engine needs it."""
    if folder.is_dir():
        return folder
    shutil.rmtree(folder.parent, ignore_errors=True)  # what a killed conversion left
    command = [sys.executable, "-c", _CONVERT, str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CONVERSION_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"the conversion took longer than {CONVERSION_SECONDS:.0f} s") from error
    if done.returncode != 0:
        tail = tuple(done.stderr.splitlines()[-LOG_LINES:])
        raise CommandError("the packaged model could not be converted; the end of its log:", details=tail)
    return folder
