"""What is asked of the recommender over the control API, and what it answers; the command line prints the same."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from pilotlight.platform.api.shapes import Shape
from pilotlight.platform.manifest.references import LONGEST_REFERENCE
from pilotlight.recommender.workload import HIGHEST_RATE, LARGEST_COUNT, LONGEST_BOUND

Seconds = Annotated[float, Field(gt=0, le=LONGEST_BOUND, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=HIGHEST_RATE, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0, le=LARGEST_COUNT)]
Quantile = tuple[Annotated[float, Field(ge=0, le=1)], Count]
Quantiles = Annotated[tuple[Quantile, ...], Field(min_length=1, max_length=64)]
AcceleratorName = Annotated[str, Field(min_length=1, max_length=100)]


class RecommendIn(Shape):
    """A model in the registry, the requests it gets, and the latencies it should keep."""

    model: Annotated[str, Field(max_length=LONGEST_REFERENCE)]
    """`s3://BUCKET/[NAMESPACE/]NAME:TAG`."""
    accelerators: Annotated[tuple[AcceleratorName, ...], Field(max_length=64)] = ()
    """By name; without any, every one of the catalogue."""
    ttft: Seconds | None = None
    """Bound of the time to the first token, seconds."""
    itl: Seconds | None = None
    """Bound of the time between two tokens, seconds."""
    prompt: Quantiles = ((1.0, 512),)
    """Tokens of a prompt: pairs of a share of requests and the tokens that it does not exceed, rising."""
    answer: Quantiles = ((1.0, 256),)
    """Tokens of an answer, likewise."""
    rate: Rate | None = None
    """Requests per second that are expected."""
    context: Count | None = None
    """Longest request, tokens."""
    tensor_parallel: Count | None = None
    """Accelerators that each layer is split over."""
    pipeline_parallel: Count | None = None
    """Stages that layers are spread over, each of so many accelerators."""
    kv_dtype: Annotated[str, Field(max_length=32)] = "auto"


class FigureOut(Shape):
    """One number, or one word, with its reason."""

    value: float | int | str
    unit: str
    low: float | None
    """Lower end of the 95 % interval; null: exact, or a choice."""
    high: float | None
    reason: str
    inputs: dict[str, Any]
    """What it came from, by name."""


class RecommendedOut(Shape):
    """How to run the model on one accelerator."""

    accelerator: str
    fits: bool
    refusal: str
    """Why it cannot serve there so, and what would help; empty: it can."""
    figures: dict[str, FigureOut]
    options: dict[str, Any]
    """The engine's, by vLLM's names."""
    checks: tuple[str, ...]
    """What has to pass before it may serve: where a number format changes answers."""
    notes: tuple[str, ...]
    """What was guessed."""
