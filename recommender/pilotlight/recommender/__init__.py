"""Pure sizing: model + machine + manifest -> engine configuration, capacity, expected start time, with reasons."""

from pilotlight.recommender.errors import BadConfig, DoesNotFit, ModelMismatch, OptionRefused, RecommenderError
from pilotlight.recommender.eta import remaining, start_eta
from pilotlight.recommender.facts import ModelFacts, Tensor, config_facts, read_facts
from pilotlight.recommender.files import read_folder, read_header
from pilotlight.recommender.lengths import Lengths
from pilotlight.recommender.memory import MemoryPlan, MemoryRequest, plan_memory
from pilotlight.recommender.parameters import count_parameters
from pilotlight.recommender.sizing import Device, Machine, Sizing, SizingRequest, size

__all__ = [
    "BadConfig",
    "Device",
    "DoesNotFit",
    "Lengths",
    "Machine",
    "MemoryPlan",
    "MemoryRequest",
    "ModelFacts",
    "ModelMismatch",
    "OptionRefused",
    "RecommenderError",
    "Sizing",
    "SizingRequest",
    "Tensor",
    "config_facts",
    "count_parameters",
    "plan_memory",
    "read_facts",
    "read_folder",
    "read_header",
    "remaining",
    "size",
    "start_eta",
]
