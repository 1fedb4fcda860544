"""Model + machine + manifest -> engine configuration, what it takes, and why. Pure: no I/O, no clock.

Where a configuration cannot work, the refusal comes from here, before anything is fetched or started.
"""

from __future__ import annotations

from pilotlight.recommender._cpu import size_cpu
from pilotlight.recommender._gpu import size_gpu
from pilotlight.recommender.errors import OptionRefused
from pilotlight.recommender.facts import ModelFacts
from pilotlight.recommender.values import Device, Machine, Sizing, SizingRequest

__all__ = ["Device", "Machine", "Sizing", "SizingRequest", "size"]


def size(model: ModelFacts, machine: Machine, request: SizingRequest) -> Sizing:
    """Size one replica.

    Raises:
        DoesNotFit: It needs more memory than the manifest, the machine or the device gives; with the arithmetic.
        OptionRefused: The manifest asks for what this model or machine cannot do at all.
    """
    _check_task(model, request)
    _check_context(model, request)
    return size_gpu(model, machine, request) if request.accelerator else size_cpu(model, machine, request)


def _check_task(model: ModelFacts, request: SizingRequest) -> None:
    if model.encoder and request.task != "embed":
        raise OptionRefused(
            "task", f"the model is an embedder ({model.architecture}) and cannot generate; set task: embed"
        )


def _check_context(model: ModelFacts, request: SizingRequest) -> None:
    wanted = request.overrides.get("max_model_len")
    if isinstance(wanted, int) and wanted > model.context:
        raise OptionRefused(
            "engine.maxModelLen",
            f"engine.maxModelLen is {wanted}, but the model's context is {model.context} tokens; "
            f"set at most {model.context}",
        )
