"""The manifest's rules between fields in CEL, so that the API server refuses what breaks them at `kubectl apply`.

Each says again what a `_problems` of the manifest's model says; tests hold the two to the same manifests.
"""

from __future__ import annotations

from typing import NamedTuple


class Rule(NamedTuple):
    """One rule of one object."""

    field: str
    """What is blamed, relative to the object; empty: the object as a whole."""
    holds: str
    """CEL; true: the object is well."""
    message: str


_ZERO = "is 0; expected more than 0"


def _more_than_zero(field: str) -> Rule:
    return Rule(field, f"!has(self.{field}) || self.{field}.matches('[1-9]')", _ZERO)


def _needs_adapters(name: str) -> Rule:
    holds = f"!has(self.engine) || !has(self.engine.{name}) || (has(self.adapters) && size(self.adapters) > 0)"
    return Rule(f"engine.{name}", holds, "is about adapters, but there are none; expected spec.adapters")


def _needs_accelerator(name: str) -> Rule:
    named = "(has(self.resources) && has(self.resources.accelerator))"
    holds = f"!has(self.engine) || !has(self.engine.{name}) || {named}"
    message = "is about accelerators, but none is named; expected resources.accelerator"
    return Rule(f"engine.{name}", holds, message)


_TENSOR_PARALLEL = (
    "!has(self.engine) || !has(self.engine.tensorParallelSize) || !has(self.resources)"
    " || !has(self.resources.accelerator) || self.engine.tensorParallelSize =="
    " (has(self.resources.count) ? self.resources.count : 1)"
)

ROOT = (
    Rule(
        "spec.adapters",
        "!has(self.spec.adapters) || self.spec.adapters.all(adapter, adapter.name != self.metadata.name)",
        "an adapter has the function's own name; expected another name",
    ),
)
"""Of the whole object."""
RULES: dict[str, tuple[Rule, ...]] = {
    "": (
        Rule(
            "adapters",
            "self.task != 'embed' || !has(self.adapters) || size(self.adapters) == 0",
            "do not go with task embed; expected task: generate",
        ),
        *map(_needs_adapters, ("maxLoras", "maxLoraRank", "maxCpuLoras")),
        *map(_needs_accelerator, ("gpuMemoryUtilization", "cpuOffloadGb", "tensorParallelSize")),
        Rule("engine.tensorParallelSize", _TENSOR_PARALLEL, "differs from resources.count; expected the same"),
    ),
    "slo": (
        Rule("ttft", "!has(self.ttft) || self.class == 'interactive'", "does not go with class batch"),
        Rule("itl", "!has(self.itl) || self.class == 'interactive'", "does not go with class batch"),
        Rule("deadline", "!has(self.deadline) || self.class == 'batch'", "does not go with class interactive"),
        *map(_more_than_zero, ("ttft", "itl", "deadline")),
    ),
    "scale": (Rule("min", "self.min <= self.max", "is more than max; expected at most max, or a larger max"),),
    "resources": (
        Rule(
            "count",
            "!has(self.count) || has(self.accelerator)",
            "counts accelerators, but none is named; expected accelerator beside it",
        ),
        Rule("memory", "!has(self.memory) || string(self.memory).matches('[1-9]')", _ZERO),
    ),
    "engine": (
        Rule(
            "simulated",
            "!has(self.simulated) || self.kind == 'simulated'",
            "the engine is vllm; expected kind: simulated beside it, or no simulated section",
        ),
        Rule(
            "enableAutoToolChoice",
            "!has(self.enableAutoToolChoice) || !self.enableAutoToolChoice || has(self.toolCallParser)",
            "needs a parser for the model's calls; expected toolCallParser beside it",
        ),
        Rule(
            "maxNumBatchedTokens",
            "!has(self.maxNumBatchedTokens) || !has(self.maxNumSeqs) || self.maxNumBatchedTokens >= self.maxNumSeqs",
            "is less than maxNumSeqs; expected a token for each request at least",
        ),
    ),
    "pod.tolerations.items": (
        Rule("operator", "has(self.key) || self.operator == 'Exists'", "is Equal, but there is no key"),
        Rule(
            "value",
            "!has(self.value) || self.value == '' || self.operator != 'Exists'",
            "does not go with operator Exists",
        ),
        Rule(
            "tolerationSeconds",
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "is about effect NoExecute alone",
        ),
    ),
}
"""By the path of the object below `spec`."""
