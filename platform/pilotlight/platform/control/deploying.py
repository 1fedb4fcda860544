"""Applying manifests: all of them or none, and nothing at all when nothing changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pilotlight.activator.values import Caller, Clock, FunctionId
from pilotlight.platform.control.errors import ForbiddenError, MissingError, PlatformError, RefusedError
from pilotlight.platform.control.templates import Sized, build, policy
from pilotlight.platform.database.functions import Change, Functions, same
from pilotlight.platform.manifest import Function as Manifest
from pilotlight.platform.manifest import ManifestError
from pilotlight.platform.shelf import Shelf
from pilotlight.platform.values import Function, Revision
from pilotlight.recommender import Machine


@dataclass(frozen=True)
class Applied:
    """What became of one manifest."""

    function: Function
    change: str  # created | updated | unchanged
    reasons: tuple[str, ...]


class Deployer:
    """Blocking, so that it is called in a thread; one apply at a time."""

    def __init__(
        self,
        functions: Functions,
        shelf: Shelf,
        machine: Callable[[], Machine],
        clock: Clock,
        changed: Callable[[], None],
        *,
        in_cluster: bool = False,
    ) -> None:
        """Take what it works on.

        Args:
            functions: Where functions and revisions are kept.
            shelf: Where models are.
            machine: What replicas may use just now.
            clock: Of the rows' times.
            changed: Called, from the thread, after anything was written.
            in_cluster: Whether replicas are pods.
        """
        self._in_cluster = in_cluster
        self._functions = functions
        self._shelf = shelf
        self._machine = machine
        self._clock = clock
        self._changed = changed
        self._lock = threading.Lock()

    def apply(self, manifests: Sequence[Manifest], caller: Caller) -> tuple[Applied, ...]:
        """Raises RefusedError with every refusal, ForbiddenError, UnavailableError."""
        for manifest in manifests:
            check_manages(caller, _id(manifest))
        sized = self._size(manifests, caller)
        with self._lock:
            pairs = [self._change(manifest, fit) for manifest, fit in zip(manifests, sized, strict=True)]
            written = [change for change, _ in pairs if change is not None]
            now = self._clock.now()
            functions = {function.id: function for function in self._functions.apply(written, now, caller.key)}
        if written:
            self._changed()
        return tuple(
            self._applied(m, fit, pair[1], functions) for m, fit, pair in zip(manifests, sized, pairs, strict=True)
        )

    def delete(self, function: FunctionId, caller: Caller) -> None:
        """Raises MissingError, ForbiddenError."""
        check_manages(caller, function)
        with self._lock:
            done = self._functions.delete(function, self._clock.now(), caller.key)
        if not done:
            raise MissingError(f"there is no function {function}")
        self._changed()

    def _size(self, manifests: Sequence[Manifest], caller: Caller) -> list[Sized]:
        sized: list[Sized] = []
        refused: list[RefusedError] = []
        for manifest in manifests:
            try:
                sized.append(build(manifest, self._shelf, self._machine(), caller, in_cluster=self._in_cluster))
            except RefusedError as error:
                refused.append(error)
        if len(refused) == 1:
            raise refused[0]
        if refused:
            raise RefusedError("nothing was applied", [error.message for error in refused])
        return sized

    def _change(self, manifest: Manifest, sized: Sized) -> tuple[Change | None, str]:
        """What to write, and what to call it."""
        known = self._functions.get(_id(manifest))
        content, wanted = manifest.to_dict(), policy(manifest)
        if known is None:
            return Change(_id(manifest), content, wanted, sized.template, sized.reasons), "created"
        current = self._revision(known)
        if current and same(current.template, sized.template):
            if known.policy == wanted and known.manifest == content:
                return None, "unchanged"
            return Change(_id(manifest), content, wanted, None, sized.reasons), "updated"
        return Change(_id(manifest), content, wanted, sized.template, sized.reasons), "updated"

    def _revision(self, function: Function) -> Revision | None:
        found = self._functions.revisions(function.id)
        return next((revision for revision in found if revision.name == function.revision), None)

    def _applied(self, manifest: Manifest, sized: Sized, change: str, functions: dict[FunctionId, Function]) -> Applied:
        function = functions.get(_id(manifest)) or self._functions.get(_id(manifest))
        if function is None:
            raise MissingError(f"{_id(manifest)} was deleted while it was applied")
        return Applied(function, change, sized.reasons)


def may_manage(caller: Caller, function: FunctionId) -> bool:
    """Keys that are bound to single functions call them; keys of a namespace manage what is in it."""
    if caller.admin:
        return True
    return caller.functions is None and caller.namespaces is not None and function.namespace in caller.namespaces


def check_manages(caller: Caller, function: FunctionId) -> None:
    if not may_manage(caller, function):
        raise ForbiddenError(f"key {caller.key} may not manage functions in namespace {function.namespace}")


def refusal(error: ManifestError) -> PlatformError:
    """Every finding, one line each."""
    lines = [str(item) for item in error.items]
    return RefusedError(lines[0], ()) if len(lines) == 1 else RefusedError("nothing was applied", lines)


def _id(manifest: Manifest) -> FunctionId:
    return FunctionId(manifest.metadata.namespace, manifest.metadata.name)
