"""Why a model cannot be sized; every refusal says what to change."""

from __future__ import annotations


class RecommenderError(ValueError):
    """Base of all refusals; `str()` is a sentence for the user."""


class ModelMismatch(RecommenderError):  # noqa: N818 - a verdict, not a failure
    """The tensors contradict the model's configuration.

    Args:
        problems: One sentence per contradiction, each naming the tensor, its shape and the configuration's key.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("the weights do not match the model's configuration: " + "; ".join(problems))
        self.problems = problems


class OptionRefused(RecommenderError):  # noqa: N818 - a verdict, not a failure
    """A manifest asks for something that this model or machine cannot do, whatever the memory.

    Args:
        field: The manifest's field, as `engine.maxModelLen`.
        message: The whole sentence.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class DoesNotFit(RecommenderError):  # noqa: N818 - a verdict, not a failure
    """The model needs more than there is; the message holds the arithmetic.

    Args:
        message: The whole sentence, with every summand.
        needed_bytes: What the smallest working configuration takes.
        available_bytes: What the manifest, machine or device gives.
        changes: Each change that was found to fit, one sentence each, the nearest first; they are in the message too.
    """

    def __init__(self, message: str, needed_bytes: int, available_bytes: int, changes: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.needed_bytes = needed_bytes
        self.available_bytes = available_bytes
        self.changes = changes


class BadConfig(RecommenderError):  # noqa: N818 - a verdict, not a failure
    """A model's own files contradict themselves or lack what every model has.

    Args:
        field: The key of `config.json`, or the file.
        message: The whole sentence.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class SloUnreachable(RecommenderError):  # noqa: N818 - a verdict, not a failure
    """A bound of latency that not even a single request keeps.

    Args:
        bound: `itl` | `ttft`.
        wanted: Seconds.
        reachable: Seconds that one request alone is expected to take: the least bound that can be kept.
        where: How many of which accelerator.
        changes: Each change that was found to keep it, one sentence each; they are in the message too.
    """

    def __init__(self, bound: str, wanted: float, reachable: float, where: str, changes: tuple[str, ...] = ()) -> None:
        advice = "; or ".join((f"set {bound} to {reachable:.3g} s or more", *changes))
        super().__init__(
            f"{bound.upper()} of {wanted:g} s cannot be kept on {where}: one request alone takes {reachable:.3g} s;"
            f" {advice}"
        )
        self.bound = bound
        self.wanted = wanted
        self.reachable = reachable
        self.where = where
        self.changes = changes
