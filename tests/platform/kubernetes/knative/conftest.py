"""Objects as Knative makes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pilotlight.activator.values import FunctionId
from pilotlight.platform.kubernetes.knative.service import PodPlan
from pilotlight.platform.values import Policy, Revision, Template

PlanOf = Callable[..., PodPlan]


def template(**changes: Any) -> Template:
    base: dict[str, Any] = {
        "model": "s3://models/a:v1",
        "digest": "sha256:00",
        "store": "s3://models",
        "task": "generate",
        "kind": "vllm",
        "options": {},
        "environment": {},
        "slots": 8,
        "context": 4096,
        "weight_bytes": 2**28,
        "memory_bytes": 2**30,
        "device_bytes": 0,
        "devices": 0,
        "accelerator": "",
        "cpus": 0.4,
    }
    return Template(**{**base, **changes})


@pytest.fixture
def plan_of() -> PlanOf:
    """A plan; what is given are the template's fields."""

    def make(number: int = 1, policy: Policy | None = None, **changes: Any) -> PodPlan:
        owner = {"metadata": {"namespace": "team", "name": "chat", "uid": "u-function"}}
        function = FunctionId("team", "chat")
        revision = Revision(function, f"chat-{number:05}", number, 0.0, "engine-key", template(**changes))
        return PodPlan(owner, revision, policy or Policy(), "registry.example/runtime:1", {"SPEC": "{}"})

    return make
