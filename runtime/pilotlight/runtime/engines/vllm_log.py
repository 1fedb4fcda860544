"""vLLM's log, read: phases of the start and the likely cause of a failure. Unknown lines mean nothing."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

from pilotlight.runtime.engines.protocol import PORT_TAKEN, Signal
from pilotlight.runtime.spec import Phase

_PHASES = (
    (re.compile(r"Starting to load model "), Phase.LOAD),
    (re.compile(r"Initializing model took "), Phase.LOAD),
    (re.compile(r"Loading weights took "), Phase.WARMUP),
    (re.compile(r"(?:GPU|CPU) KV cache size: "), Phase.WARMUP),
)
_SHARDS = re.compile(r"Loading safetensors checkpoint shards: +(\d{1,3})% Completed")

_CAUSES = (
    (r"(?i)address already in use|errno 98", PORT_TAKEN),
    (r"unrecognized arguments?: (.{1,200})", "the engine does not know the option {0}"),
    (r"error: (argument .{1,300})", "the engine refuses an option: {0}"),
    (r"SafetensorError: (.{1,200})", "a weight file of the model is damaged: {0}"),
    (
        r"(?i)(?:ValueError|AssertionError|RuntimeError|KeyError)[^\n]{0,80}(?:size|shape) mismatch(.{0,200})",
        "the model's weights do not match its config.json (a tensor has another shape{0})",
    ),
    (
        r"(assert (?:loaded_weight|param_data|param)\b.{0,150}(?:shape|size).{0,100})",
        "the model's weights do not match its config.json: {0}",
    ),
    (
        r"(Attempted to load weight .{1,200})",
        "the model's weights do not match its config.json: {0}",
    ),
    (
        r"(The size of tensor a .{1,200}|start \(\d+\) \+ length \(\d+\) exceeds dimension size .{0,60})",
        "the model's weights do not match its config.json: {0}",
    ),
    (
        r"ValueError: (Following weights were not initialized from checkpoint: .{1,200})",
        "the model's weights do not match its config.json: {0}",
    ),
    (
        r"ValueError: (There is no module or parameter named .{1,200})",
        "the model's weights do not match its config.json: {0}",
    ),
    (
        r"KeyError: '((?:model\.)?(?:layers|lm_head|embed)[^']{0,150})'",
        "the weights hold a tensor that config.json does not: {0}",
    ),
    (r"(Model architectures .{1,200} are not supported.{0,100})", "the engine does not support this model: {0}"),
    (r"(?:ValueError|OSError): (.{0,200}trust_remote_code.{0,200})", "the model needs code of its own: {0}"),
    (r"(?i)torch\.OutOfMemoryError: (.{1,200})", "the accelerator's memory is not enough: {0}"),
    (
        r"(?i)(?:cannot allocate memory|MemoryError|DefaultCPUAllocator: can't allocate)",
        "the machine's memory is not enough",
    ),
    (r"ValueError: (.{0,300}(?:KV cache|kv cache|kv allocation).{0,200})", "the KV cache does not fit: {0}"),
    (
        r"(?:ValidationError|ValueError): (.{0,60}max_model_len.{0,300})",
        "the context length does not fit the model: {0}",
    ),
    (r"ValidationError: \d+ validation errors? for (.{1,200})", "the engine refuses its configuration: {0}"),
    (r"No space left on device", "the disk is full"),
    (r"ModuleNotFoundError: No module named 'vllm'", "vLLM is not installed: install pilotlight with the extra 'cpu'"),
    (r"guard: (cannot start .{1,200})", "{0}"),
)
_CAUSE_PATTERNS = tuple((re.compile(pattern), text) for pattern, text in _CAUSES)
_ERROR = re.compile(r"^(?:\([^)]{1,60}\) )?(?:ERROR [^\]]{1,80}\] )?((?:[\w.]+)?(?:Error|Exception)(?:: .{1,300})?)$")
_WRAPPED = ("Engine core initialization failed", "WorkerProc initialization failed")
"""Exceptions that only say that another process has failed, which has said why before."""
_SIGNALS = {
    signal.SIGKILL: "the engine was killed (SIGKILL), most likely because the machine ran out of memory",
    signal.SIGSEGV: "the engine crashed (segmentation fault)",
    signal.SIGILL: "the engine uses instructions that this processor does not have",
    signal.SIGABRT: "the engine aborted",
}


def read(line: str) -> Signal | None:
    if shards := _SHARDS.search(line):
        return Signal(Phase.LOAD, min(int(shards[1]), 100) / 100)
    for pattern, phase in _PHASES:
        if pattern.search(line):
            return Signal(phase)
    return None


def cause(lines: Sequence[str], exit_code: int | None) -> str:
    """The first cause in the order of the table, else the first exception, else the exit status."""
    for pattern, text in _CAUSE_PATTERNS:
        for line in lines:
            if found := pattern.search(line):
                return text.format(*(group.strip() for group in found.groups()))
    if exit_code is not None and exit_code < 0 and -exit_code in _SIGNALS:
        return _SIGNALS[signal.Signals(-exit_code)]
    errors = [found[1] for line in lines if (found := _ERROR.match(line))]
    if errors:
        own = [error for error in errors if not any(text in error for text in _WRAPPED)]
        return f"the engine failed: {(own or errors)[0]}"
    return f"the engine ended with exit status {exit_code}" if exit_code is not None else "the engine does not answer"
