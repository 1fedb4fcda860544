"""How a supervisor starts the simulated engine."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from .options import OWN, Options, read_options

KEY_VARIABLE = "VLLM_API_KEY"
"""As with vLLM, the engine key comes by this environment variable, never by an argument."""


def command(
    port: int,
    served_names: Sequence[str],
    options: Mapping[str, object],
    adapters: Sequence[str] = (),
    host: str = "127.0.0.1",
) -> list[str]:
    """The command line; `options` are `EngineSpec.options`, of which the known ones are passed on.

    `adapters` are names that are served beside the model's own.

    Raises `OptionError` for what the engine would refuse.
    """
    read_options(options)
    known = {name: value for name, value in options.items() if name in Options.model_fields or name.startswith(OWN)}
    line = [sys.executable, "-m", "pilotlight.runtime.simulated", "--host", host, "--port", str(port)]
    line += ["--served-model-name", ",".join(served_names)]
    for adapter in adapters:
        line += ["--adapter", adapter]
    for name, value in sorted(known.items()):
        if value is not None:
            line += ["--option", f"{name}={str(value).lower() if isinstance(value, bool) else value}"]
    return line


def environment(key: str) -> dict[str, str]:
    """What the engine needs in its environment."""
    return {KEY_VARIABLE: key} if key else {}
