"""Who may read and push which repository."""

from __future__ import annotations

from typing import Protocol

from pilotlight.platform.registry.refs import namespace_of


class Caller(Protocol):
    """What the registry needs to know of whoever calls."""

    @property
    def admin(self) -> bool: ...

    @property
    def namespaces(self) -> frozenset[str] | None:
        """None: not bound to namespaces; such a key calls, and owns none."""

    @property
    def functions(self) -> frozenset[tuple[str, str]] | None:
        """None: not bound to single functions."""


def may_read(caller: Caller, repository: str) -> bool:
    """Shared repositories are for everyone, the others for the keys of their namespace.

    A key that is bound to single functions may call them, and owns no namespace.
    """
    namespace = namespace_of(repository)
    return namespace is None or _owns(caller, namespace)


def may_push(caller: Caller, repository: str) -> bool:
    """Into shared repositories only admins push, into the others the keys of their namespace."""
    namespace = namespace_of(repository)
    return caller.admin if namespace is None else _owns(caller, namespace)


def _owns(caller: Caller, namespace: str) -> bool:
    if caller.admin:
        return True
    return caller.functions is None and caller.namespaces is not None and namespace in caller.namespaces
