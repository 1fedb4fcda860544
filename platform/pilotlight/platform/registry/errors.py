"""What can go wrong in the registry; the store's own errors pass through as they are."""

from __future__ import annotations

from collections.abc import Sequence


class RegistryError(Exception):
    """Base of all; the message is written for the user."""


class BadReferenceError(RegistryError):
    """A model reference that cannot be understood."""


class ModelRefusedError(RegistryError):
    """A folder that is no model we would serve; `problems` are all that was found, one sentence each."""

    def __init__(self, where: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        listed = "".join(f"\n  - {problem}" for problem in self.problems)
        super().__init__(f"{where} is refused, nothing was uploaded:{listed}")


class ModelNotFoundError(RegistryError):
    """No such repository, tag or digest."""


class IncompleteModelError(RegistryError):
    """A manifest whose files are not all in the store."""


class NotAllowedError(RegistryError):
    """The caller has no right to this repository."""


class NotPresignedError(RegistryError):
    """This store gives no signed requests; bytes go through the platform."""


class ImportFailedError(RegistryError):
    """The hub did not give the model."""


class CollectionRunningError(RegistryError):
    """A garbage collection holds the registry; another try in a minute succeeds."""
