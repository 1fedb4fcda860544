"""Objects as Knative makes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.platform.conftest import make_template

from pilotlight.activator.values import FunctionId
from pilotlight.platform.kubernetes.knative.service import PodPlan
from pilotlight.platform.values import Policy, Revision, Template

PlanOf = Callable[..., PodPlan]


def template(**changes: Any) -> Template:
    return make_template(**{"model": "s3://models/a:v1", "kind": "vllm", "slots": 8, "cpus": 0.4, **changes})


@pytest.fixture
def plan_of() -> PlanOf:
    """A plan; what is given are the template's fields."""

    def make(number: int = 1, policy: Policy | None = None, **changes: Any) -> PodPlan:
        owner = {"metadata": {"namespace": "team", "name": "chat", "uid": "u-function"}}
        function = FunctionId("team", "chat")
        revision = Revision(function, f"chat-{number:05}", number, 0.0, "engine-key", template(**changes))
        return PodPlan(owner, revision, policy or Policy(), "registry.example/runtime:1", {"SPEC": "{}"})

    return make
