"""Who may read and push which repository."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from pilotlight.platform.registry.refs import namespace_of


class Caller(Protocol):
    """What the registry needs to know of whoever calls."""

    @property
    def key(self) -> str:
        """Public id of its key."""

    @property
    def admin(self) -> bool: ...

    @property
    def namespaces(self) -> frozenset[str] | None:
        """None: not bound to namespaces; such a key calls, and owns none."""

    @property
    def functions(self) -> frozenset[tuple[str, str]] | None:
        """None: not bound to single functions."""


@dataclass(frozen=True)
class Uploader:
    """A caller with an upload token: it pushes to one repository of one bucket, and that is all."""

    key: str  # the one that the token was made with
    bucket: str
    repository: str
    expires: float  # Unix time
    admin: bool = field(default=False, init=False)
    namespaces: frozenset[str] | None = field(default=frozenset(), init=False)
    functions: frozenset[tuple[str, str]] | None = field(default=None, init=False)


def may_read(caller: Caller, repository: str) -> bool:
    """Shared repositories are for everyone, the others for the keys of their namespace.

    An upload token reads what lies where it pushes to, to send only what is missing.
    A key that is bound to single functions may call them, and owns no namespace.
    """
    if isinstance(caller, Uploader):
        return repository == caller.repository
    namespace = namespace_of(repository)
    return namespace is None or _owns(caller, namespace)


def may_fetch(caller: Caller) -> bool:
    """Whether the caller may have the bytes of files that it may read: an upload token only learns what is there."""
    return not isinstance(caller, Uploader)


def may_push(caller: Caller, repository: str) -> bool:
    """Into shared repositories only admins push, into the others the keys of their namespace."""
    if isinstance(caller, Uploader):
        return repository == caller.repository
    namespace = namespace_of(repository)
    return caller.admin if namespace is None else _owns(caller, namespace)


def _owns(caller: Caller, namespace: str) -> bool:
    if caller.admin:
        return True
    return caller.functions is None and caller.namespaces is not None and namespace in caller.namespaces
