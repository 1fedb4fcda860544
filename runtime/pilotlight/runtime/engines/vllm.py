"""vLLM 0.32: its flags, environment, routes and log lines. No other module knows them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pilotlight.runtime.engines import vllm_key, vllm_log
from pilotlight.runtime.engines.protocol import BadEngineSpecError, Launch, Place, Signal
from pilotlight.runtime.spec import ReplicaSpec
from pilotlight.runtime.wire import Request

MODULE = "vllm.entrypoints.openai.api_server"
"""Started with `python -m`: the console script `vllm` does not work with the CPU wheel."""
MIDDLEWARE = "pilotlight.runtime.engines.vllm_key.EngineKey"
CPU_WORKER = "pilotlight.runtime.engines.vllm_worker.Worker"

RESERVED = frozenset(
    [
        "api_key",
        "allow_credentials",
        "allowed_origins",
        "allowed_headers",
        "allowed_methods",
        "config",
        "data_parallel_supervisor_port",
        "download_dir",
        "enable_lora",
        "enable_scale_out",
        "grpc",
        "grpc_port",
        "headless",
        "host",
        "lora_modules",
        "middleware",
        "model",
        "model_tag",
        "port",
        "root_path",
        "served_model_name",
        "ssl_ca_certs",
        "ssl_certfile",
        "ssl_keyfile",
        "uds",
    ]
)
"""Options that decide where the engine listens and to whom; they are ours."""

CODE_OPTIONS = frozenset(
    [
        "logits_processors",
        "reasoning_parser_plugin",
        "scheduler_cls",
        "tool_parser_plugin",
        "tool_server",
        "worker_cls",
        "worker_extension_cls",
    ]
)
"""Options that name code to import; a function's manifest must not."""

_RESERVED_ENVIRONMENT = frozenset(
    {"VLLM_API_KEY", "VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "VLLM_PLUGINS", "LD_PRELOAD"}
)
_DROPPED = frozenset({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "VLLM_CPU_KVCACHE_SPACE", "PYTHONDONTWRITEBYTECODE"})
"""Secrets that are not the engine's; what would win over an option; what would have three engine processes compile
thousands of modules at every start."""
_DROPPED_PREFIXES = ("AWS_", "PILOTLIGHT_")
_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""vLLM 0.32, `MaxLoRARanks` in config/lora.py."""
_KV_GIB = 1
"""KV cache on CPU where the spec names none, GiB; without any vLLM wants nearly all memory of the node."""


class VllmEngine:
    """The stock engine by its public command line."""

    needs_model = True
    load_route = (vllm_key.IN_FLIGHT, "in_flight")

    def launch(self, spec: ReplicaSpec, place: Place, inherited: Mapping[str, str]) -> Launch:
        return Launch(command(spec, place), environment(spec, inherited))

    def read(self, line: str) -> Signal | None:
        return vllm_log.read(line)

    def cause(self, lines: Sequence[str], exit_code: int | None) -> str:
        return vllm_log.cause(lines, exit_code)

    def warmups(self, spec: ReplicaSpec) -> Sequence[Request]:
        name = spec.served_names[0]
        if spec.task == "embed":
            return (_post("/v1/embeddings", {"model": name, "input": "hello"}),)
        # Two tokens: the first takes the way of prefill, the second that of decode.
        body = {"model": name, "prompt": "Hello", "max_tokens": 2, "temperature": 0, "ignore_eos": True}
        return (_post("/v1/completions", body),)


def command(spec: ReplicaSpec, place: Place) -> tuple[str, ...]:
    """The whole command line. Raises BadEngineSpecError."""
    if refused := sorted(spec.engine.options.keys() & (RESERVED | CODE_OPTIONS)):
        raise BadEngineSpecError(f"engine option {refused[0]!r} is set by the platform and cannot be overridden")
    if place.model is None or not spec.served_names:
        raise BadEngineSpecError("vLLM needs a model and a name to serve it under")
    line = [sys.executable, "-m", MODULE, "--host", place.host, "--port", str(place.port), "--model", str(place.model)]
    line += ["--served-model-name", *spec.served_names, "--middleware", MIDDLEWARE]
    line += ["--disable-fastapi-docs", "--disable-uvicorn-access-log"]
    line += [] if spec.devices else ["--worker-cls", CPU_WORKER]
    for name, value in (_defaults(spec) | dict(spec.engine.options)).items():
        line += _flag(name, value)
    return (*line, *_adapters(place, spec.engine.options))


def environment(spec: ReplicaSpec, inherited: Mapping[str, str]) -> dict[str, str]:
    """The whole environment: what was inherited without secrets that are not the engine's, and ours on top."""
    if refused := sorted(spec.engine.environment.keys() & _RESERVED_ENVIRONMENT):
        raise BadEngineSpecError(f"engine environment {refused[0]!r} is set by the platform and cannot be overridden")
    dropped = _DROPPED | _RESERVED_ENVIRONMENT - {"LD_PRELOAD"}
    kept = {
        name: value
        for name, value in inherited.items()
        if name not in dropped and not name.startswith(_DROPPED_PREFIXES)
    }
    ours = {
        "VLLM_API_KEY": spec.engine.key,
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": str(max(spec.threads, 1)),
    }
    return kept | ours | _hardware(spec) | dict(spec.engine.environment)


def _defaults(spec: ReplicaSpec) -> dict[str, object]:
    """Options that the spec may override."""
    options: dict[str, object] = {}
    if spec.devices:
        options["tensor_parallel_size"] = len(spec.devices) if len(spec.devices) > 1 else None
    else:
        # bfloat16 gives wrong answers on processors with AMX; see the engine notes in the operations guide.
        options |= {"dtype": "float32", "enforce_eager": True}
    if spec.task == "embed":
        options["runner"] = "pooling"
    return options


def _flag(name: str, value: object) -> list[str]:
    if value is None or value is False:
        return []
    flag = f"--{name.replace('_', '-')}"
    if value is True:
        return [flag]
    if isinstance(value, Mapping):
        return [flag, json.dumps(value)]
    if isinstance(value, list | tuple):
        return [flag, *(str(item) for item in value)]
    return [f"{flag}={value}"]  # joined: a value that begins with a dash stays a value


def _adapters(place: Place, chosen: Mapping[str, object]) -> list[str]:
    """Flags of the adapters; bounds that the spec's options name stand there already."""
    if not place.adapters:
        return []
    ranks = [_rank(folder) for folder in place.adapters.values()]
    rank = next((size for size in _LORA_RANKS if size >= max(ranks)), None)
    if rank is None:
        raise BadEngineSpecError(f"adapter rank {max(ranks)} is more than the engine's {_LORA_RANKS[-1]}")
    modules = [f"{name}={folder}" for name, folder in place.adapters.items()]
    bounds = {"max_lora_rank": rank, "max_loras": len(modules)}
    flags = [flag for name, value in bounds.items() if name not in chosen for flag in _flag(name, value)]
    return ["--enable-lora", *flags, "--lora-modules", *modules]


def _rank(folder: Path) -> int:
    path = folder / "adapter_config.json"
    try:
        rank = json.loads(path.read_bytes())["r"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadEngineSpecError(
            f"adapter folder {folder} has no adapter_config.json with a rank 'r': {error}"
        ) from None
    if type(rank) is not int or rank < 1:
        raise BadEngineSpecError(f"adapter rank {rank!r} in {path} is not a positive integer")
    return rank


def _hardware(spec: ReplicaSpec) -> dict[str, str]:
    if spec.devices:
        return {"CUDA_VISIBLE_DEVICES": ",".join(spec.devices)}
    # Never vLLM's own choice: it pins every engine of a machine to the same processors.
    bind = ",".join(str(cpu) for cpu in spec.cpus) or "nobind"
    cache = {} if "kv_cache_memory_bytes" in spec.engine.options else {"VLLM_CPU_KVCACHE_SPACE": str(_KV_GIB)}
    return {"VLLM_CPU_OMP_THREADS_BIND": bind} | cache


def _post(target: str, body: Mapping[str, object]) -> Request:
    return Request("POST", target, json.dumps(body).encode())
