"""Pure sizing: model + machine + manifest -> engine configuration, capacity, expected start time, with reasons."""

from pilotlight.recommender.accelerators import Accelerator, Catalogue, UnknownAccelerator, builtin, read_catalogue
from pilotlight.recommender.errors import (
    BadConfig,
    DoesNotFit,
    ModelMismatch,
    OptionRefused,
    RecommenderError,
    SloUnreachable,
)
from pilotlight.recommender.eta import remaining, start_eta
from pilotlight.recommender.facts import ModelFacts, Tensor, config_facts, read_facts
from pilotlight.recommender.files import read_folder, read_header
from pilotlight.recommender.lengths import Lengths
from pilotlight.recommender.memory import MemoryPlan, MemoryRequest, plan_memory
from pilotlight.recommender.parameters import count_parameters
from pilotlight.recommender.performance import Observation, Performance, expected, fitted, observe
from pilotlight.recommender.placing import setup_for
from pilotlight.recommender.recommendation import (
    Figure,
    Recommendation,
    Refusal,
    compare,
    recommend,
    routing_weights,
)
from pilotlight.recommender.sizing import Device, Machine, Sizing, SizingRequest, size
from pilotlight.recommender.workload import Constraints, Slo, Workload, WorkloadRefused

__all__ = [
    "Accelerator",
    "BadConfig",
    "Catalogue",
    "Constraints",
    "Device",
    "DoesNotFit",
    "Figure",
    "Lengths",
    "Machine",
    "MemoryPlan",
    "MemoryRequest",
    "ModelFacts",
    "ModelMismatch",
    "Observation",
    "OptionRefused",
    "Performance",
    "Recommendation",
    "RecommenderError",
    "Refusal",
    "Sizing",
    "SizingRequest",
    "Slo",
    "SloUnreachable",
    "Tensor",
    "UnknownAccelerator",
    "Workload",
    "WorkloadRefused",
    "builtin",
    "compare",
    "config_facts",
    "count_parameters",
    "expected",
    "fitted",
    "observe",
    "plan_memory",
    "read_catalogue",
    "read_facts",
    "read_folder",
    "read_header",
    "recommend",
    "remaining",
    "routing_weights",
    "setup_for",
    "size",
    "start_eta",
]
