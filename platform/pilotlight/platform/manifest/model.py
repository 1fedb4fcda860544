"""The Function manifest: what a user declares. The one source of validation, JSON schema and documentation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from pilotlight.platform.manifest.engine import Engine
from pilotlight.platform.manifest.errors import Problem
from pilotlight.platform.manifest.fields import (
    LABEL_KEY,
    LABEL_VALUE,
    LONGEST_LABEL,
    LONGEST_NAME,
    AdapterName,
    Label,
    Model,
    Part,
    Ruled,
    Size,
    Span,
)
from pilotlight.platform.manifest.pod import Pod
from pilotlight.platform.manifest.units import Duration

API_VERSION = "pilotlight.dev/v1alpha1"
MOST_ADAPTERS = 64

_Annotations = Annotated[
    dict[Annotated[str, Field(max_length=253)], Annotated[str, Field(max_length=4096)]], Field(max_length=64)
]
_LabelValue = Annotated[str, Field(pattern=LABEL_VALUE, max_length=LONGEST_LABEL)]
_Labels = Annotated[
    dict[Annotated[str, Field(pattern=LABEL_KEY, max_length=LONGEST_NAME)], _LabelValue],
    Field(max_length=64),
]


class Metadata(Part):
    """Who the function is."""

    name: Label
    """The function's name: callers give it as `model`."""
    namespace: Label = "default"
    """The team or tenant it belongs to; keys and quotas are per namespace."""
    labels: _Labels = Field(default_factory=dict)
    """For selecting functions; not interpreted."""
    annotations: _Annotations = Field(default_factory=dict)
    """For people and tools; not interpreted."""


class Slo(Ruled):
    """What the function promises its callers. Scaling goes by queue and in-flight work."""

    class_: Literal["interactive", "batch"] = Field(default="interactive", alias="class")
    """`interactive` waits as long as the platform holds requests, `batch` no longer than its deadline."""
    ttft: Span | None = None
    """Time to the first token of a warm function; interactive only. Caps what a replica has in flight."""
    itl: Span | None = None
    """Time from one token to the next; interactive only. Caps what a replica has in flight."""
    deadline: Span | None = None
    """How long a request may wait for a replica where it brings no deadline itself; batch only."""

    def _problems(self) -> Iterator[Problem]:
        for name, value in (("ttft", self.ttft), ("itl", self.itl), ("deadline", self.deadline)):
            if value is None:
                continue
            if (name == "deadline") != (self.class_ == "batch"):
                right = "ttft and itl" if self.class_ == "interactive" else "deadline"
                yield Problem(name, f"does not go with class {self.class_}", f"{right} with it")
            elif value.milliseconds == 0:
                yield Problem(name, "is 0", "more than 0")


class Scale(Ruled):
    """How many replicas there may be."""

    min: Annotated[int, Field(ge=0, le=1000)] = 0
    """Replicas that always run; 0: none while nobody calls."""
    max: Annotated[int, Field(ge=1, le=1000)] = 1
    """Replicas at most."""
    keep_alive: Annotated[Span, Field(json_schema_extra={"default": "5m"})] = Duration(300_000)
    """How long the last replica stays after the last request, or after it became ready without one."""
    autoscaler: Literal["pilotlight", "kpa"] = "pilotlight"
    """Who decides the number; `kpa` is Knative's, in clusters only."""

    def _problems(self) -> Iterator[Problem]:
        if self.min > self.max:
            yield Problem("min", f"{self.min} is more than max, {self.max}", f"at most {self.max}, or a larger max")


class Resources(Ruled):
    """What one replica may use; what is left out, the recommender chooses."""

    cpu: Annotated[float, Field(gt=0, le=1024)] | None = None
    """Processors."""
    memory: Size | None = None
    """Memory of the machine: weights, engine and KV cache together."""
    accelerator: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=63)] | None = None
    """Kind of device, by words of its name, as `nvidia-h100`; none: runs on processors."""
    count: Annotated[int, Field(ge=1, le=64)] = 1
    """Devices of one replica; they share its weights."""

    def _problems(self) -> Iterator[Problem]:
        if "count" in self.model_fields_set and self.accelerator is None:
            yield Problem("count", "counts accelerators, but none is named", "accelerator beside it")
        if self.memory is not None and self.memory.bytes == 0:
            yield Problem("memory", "is 0", "more than 0")


class Adapter(Part):
    """A LoRA adapter, called as `function:adapter`."""

    name: AdapterName
    """What follows the colon."""
    model: Model
    """Where the adapter is."""


class Spec(Ruled):
    """What the function runs; `model` alone is enough."""

    model: Model
    """Where the model is: in the registry, by tag or digest. One on the hub (`hf://`) must be imported first."""
    task: Literal["generate", "embed"] = "generate"
    """Text, or embeddings."""
    slo: Slo = Field(default_factory=Slo)
    scale: Scale = Field(default_factory=Scale)
    resources: Resources = Field(default_factory=Resources)
    adapters: Annotated[tuple[Adapter, ...], Field(strict=False, max_length=MOST_ADAPTERS)] = ()
    """LoRA adapters, each called as `function:adapter`."""
    engine: Engine = Field(default_factory=Engine)
    pod: Pod = Field(default_factory=Pod)

    def _problems(self) -> Iterator[Problem]:
        yield from self._adapter_problems()
        yield from self._device_problems()

    def _adapter_problems(self) -> Iterator[Problem]:
        if self.adapters and self.task == "embed":
            yield Problem("adapters", "do not go with task embed", "task: generate")
        seen: Counter[str] = Counter()
        for number, adapter in enumerate(self.adapters):
            seen[adapter.name] += 1
            if seen[adapter.name] == 2:
                yield Problem(f"adapters.{number}.name", f'"{adapter.name}" is there twice', "a name of its own")
        for name in ("max_loras", "max_lora_rank", "max_cpu_loras"):
            if getattr(self.engine, name) is not None and not self.adapters:
                yield Problem(f"engine.{_camel(name)}", "is about adapters, but there are none", "spec.adapters")

    def _device_problems(self) -> Iterator[Problem]:
        for name in ("gpu_memory_utilization", "cpu_offload_gb", "tensor_parallel_size"):
            if getattr(self.engine, name) is not None and self.resources.accelerator is None:
                yield Problem(
                    f"engine.{_camel(name)}", "is about accelerators, but none is named", "resources.accelerator"
                )
        parallel = self.engine.tensor_parallel_size
        if parallel is not None and self.resources.accelerator and parallel != self.resources.count:
            yield Problem(
                "engine.tensorParallelSize",
                f"{parallel} differs from resources.count, {self.resources.count}",
                "the same",
            )


class Function(Ruled):
    """A serverless function for a language model."""

    api_version: Literal["pilotlight.dev/v1alpha1"]
    """The manifest's format."""
    kind: Literal["Function"]
    """What the document declares."""
    metadata: Metadata
    spec: Spec

    def _problems(self) -> Iterator[Problem]:
        for number, adapter in enumerate(self.spec.adapters):
            if adapter.name == self.metadata.name:
                # The engine serves both under one name, and would answer with the base model.
                yield Problem(f"spec.adapters.{number}.name", "is the function's own name", "another name")

    @property
    def full_name(self) -> str:
        """`namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    def to_dict(self) -> dict[str, object]:
        """The manifest as JSON values, canonical, without what is at its default; `parse` reads it back the same."""
        content: dict[str, object] = self.model_dump(mode="json", exclude_defaults=True)
        return content


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
