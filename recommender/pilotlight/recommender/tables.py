"""Priors from NVIDIA's tables of measured operators, where the package `aiconfigurator-core` is installed.

It brings pandas, pyarrow and 65 MB of tables, and takes seconds for a first answer, so nothing needs it. Its estimate
and the roofline's err in different places: the prior is their geometric mean (docs/recommender.md).
"""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import numpy as np

from pilotlight.recommender import roofline
from pilotlight.recommender.curve import Prior
from pilotlight.recommender.roofline import Setup

_BATCHES = tuple(2**power for power in range(13))
_NAMES = {"meta-llama/Llama-3.1-70B": "meta-llama/Meta-Llama-3.1-70B"}  # where its list has a model by another name


def installed() -> bool:
    """Whether there are tables to ask."""
    return importlib.util.find_spec("aiconfigurator_core") is not None


def itl_prior(setup: Setup, model: str, system: str, quantization: str, experts: tuple[int, int]) -> Prior | None:
    """Expected seconds between tokens by batch; None where the tables lack the model, its format or the device.

    Args:
        setup: The engine.
        model: Its name on the Hugging Face hub.
        system: The device by the package's name, as `h100_sxm`.
        quantization: The package's name of the weights' format; empty: as the model's configuration says.
        experts: Over how many devices each expert is split, and over how many the experts are spread.
    """
    for mode in dict.fromkeys((quantization or None, None)):
        try:
            return _mean(setup, _step_seconds(setup, _engine(setup, _NAMES.get(model, model), system, mode, experts)))
        except Exception:  # noqa: BLE001, S112 - the package names no common base for what it cannot answer
            continue
    return None


def _engine(setup: Setup, model: str, system: str, quantization: str | None, experts: tuple[int, int]) -> Any:
    from aiconfigurator_core.sdk.engine import EngineHandle

    spread = {"moe_tp_size": experts[0], "moe_ep_size": experts[1]} if setup.shape.expert_parameters else {}
    return EngineHandle.compile(
        model,
        system,
        "vllm",
        tp_size=setup.tensor_parallel,
        attention_dp_size=setup.data_parallel,
        gemm_quant_mode=quantization,
        moe_quant_mode=quantization,
        **spread,
    )


def _step_seconds(setup: Setup, engine: Any) -> list[float]:
    """One step at each of `_BATCHES`, with the prompts that answers of a closed loop bring; never falling."""
    prompt = engine.predict_prefill_latency(1, round(setup.prompt)) / 1000
    context = round(setup.prompt + setup.answer / 2)
    decode = [engine.predict_decode_latency(batch, context, 2) / 1000 for batch in _BATCHES]
    seconds = [step + batch / setup.answer * prompt for batch, step in zip(_BATCHES, decode, strict=True)]
    if not all(0 < second < math.inf for second in seconds):
        raise ValueError("the tables gave no latency")
    return [float(second) for second in np.maximum.accumulate(seconds)]


def _mean(setup: Setup, seconds: list[float]) -> Prior:
    places, heights = np.log(_BATCHES), np.log(seconds)

    def prior(batch: float) -> float:
        running = min(batch, setup.resident)
        tables = math.exp(float(np.interp(math.log(running), places, heights)))
        return math.sqrt(tables * roofline.itl(setup, batch))

    return prior
