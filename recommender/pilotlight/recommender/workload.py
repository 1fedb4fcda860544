"""What a revision is asked for: latencies it should keep, requests it gets, and what its manifest has already fixed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from pilotlight.recommender.errors import RecommenderError
from pilotlight.recommender.lengths import Lengths

LONGEST_BOUND = 365 * 86_400.0
"""Seconds: no shorter than what a manifest may promise."""
HIGHEST_RATE = 1e9
"""Requests per second."""
LARGEST_COUNT = 2**31


class WorkloadRefused(RecommenderError):  # noqa: N818 - a verdict, not a failure
    """A number of what is asked for makes no sense.

    Args:
        field: Which one.
        value: What it was.
        expected: What it must be.
    """

    def __init__(self, field: str, value: float, expected: str) -> None:
        super().__init__(f"{field} is {value:g}, but must be {expected}")
        self.field = field
        self.value = value


@dataclass(frozen=True)
class Slo:
    """Upper bounds of latencies, seconds; None: no bound.

    Raises:
        WorkloadRefused: A bound is not above zero, or above `LONGEST_BOUND`.
    """

    ttft: float | None = None
    """Time to the first token, of all but the longest twentieth of prompts."""
    itl: float | None = None
    """Time between two tokens."""

    def __post_init__(self) -> None:
        for field in fields(self):
            _check(f"slo.{field.name}", getattr(self, field.name), LONGEST_BOUND)

    @staticmethod
    def strictest(slos: Iterable[Slo]) -> Slo:
        """Of classes that share an engine: they share its batch, so the tightest of each bound counts for all."""
        known = list(slos)
        return Slo(_least(slo.ttft for slo in known), _least(slo.itl for slo in known))

    def __str__(self) -> str:
        bounds = (f"{name} {value:g} s" for name, value in (("TTFT", self.ttft), ("ITL", self.itl)) if value)
        return ", ".join(bounds) or "no bound"


@dataclass(frozen=True)
class Workload:
    """The requests of one function.

    Lengths of one quantile are a usual length and say nothing of the longest: no context and no default length of an
    answer follows from them.

    Raises:
        WorkloadRefused: The rate is not above zero, or above `HIGHEST_RATE`.
    """

    prompt: Lengths
    answer: Lengths
    whole: Lengths | None = None
    """Prompt and answer together, where that was counted; None: long prompts are taken to have long answers."""
    rate: float | None = None
    """Requests per second that are expected; None: unknown."""

    def __post_init__(self) -> None:
        _check("rate", self.rate, HIGHEST_RATE)

    @staticmethod
    def usual(prompt: int = 512, answer: int = 256, rate: float | None = None) -> Workload:
        """Requests of which only a usual length is known."""
        return Workload(Lengths(((1.0, prompt),)), Lengths(((1.0, answer),)), rate=rate)

    @property
    def together(self) -> Lengths:
        """Tokens of whole requests."""
        return self.whole or self.prompt.plus(self.answer)

    @property
    def distributed(self) -> bool:
        """Whether more than a usual length is known of whole requests."""
        return self.whole is not None or (self.prompt.distributed and self.answer.distributed)


@dataclass(frozen=True)
class Constraints:
    """What is fixed beforehand, and wins over what would be recommended; None: the recommender's choice.

    Raises:
        WorkloadRefused: A number is not above zero, or the share is above one.
    """

    tensor_parallel: int | None = None
    pipeline_parallel: int | None = None
    """One where only the other is given: their product is the accelerators of a replica."""
    dtype: str = "auto"
    kv_dtype: str = "auto"
    """Another than `auto` changes answers: the recommendation then says which check has to pass."""
    utilization: float | None = None
    """Share of each accelerator's memory."""
    context: int | None = None
    """`max_model_len`, tokens."""
    max_num_seqs: int | None = None
    step_tokens: int | None = None
    """`max_num_batched_tokens`."""
    task: str = "generate"  # | "embed"

    def __post_init__(self) -> None:
        for name in ("tensor_parallel", "pipeline_parallel", "utilization", "context", "max_num_seqs", "step_tokens"):
            _check(name, getattr(self, name), 1 if name == "utilization" else LARGEST_COUNT)


def _check(field: str, value: float | None, most: float) -> None:
    if value is not None and not 0 < value <= most:
        raise WorkloadRefused(field, value, f"a number above zero and at most {most:.10g}")


def _least(values: Iterable[float | None]) -> float | None:
    return min((value for value in values if value is not None), default=None)


USUAL = Workload.usual()
"""Where nothing is known of requests."""
NO_BOUND = Slo()
FREE = Constraints()
"""Everything is the recommender's choice."""
