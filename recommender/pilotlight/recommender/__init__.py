"""Pure sizing: model + machine + manifest -> engine configuration, capacity, expected start time, with reasons."""

from pilotlight.recommender.errors import DoesNotFit, ModelMismatch, OptionRefused, RecommenderError
from pilotlight.recommender.eta import remaining, start_eta
from pilotlight.recommender.facts import ModelFacts, Tensor, read_facts
from pilotlight.recommender.sizing import Device, Machine, Sizing, SizingRequest, size

__all__ = [
    "Device",
    "DoesNotFit",
    "Machine",
    "ModelFacts",
    "ModelMismatch",
    "OptionRefused",
    "RecommenderError",
    "Sizing",
    "SizingRequest",
    "Tensor",
    "read_facts",
    "remaining",
    "size",
    "start_eta",
]
