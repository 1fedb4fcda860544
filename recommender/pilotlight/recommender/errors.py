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
