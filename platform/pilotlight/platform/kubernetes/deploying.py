"""`pilotlight deploy` against a cluster: the Function object counts, so that is what is written and waited for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import sleep

from pilotlight.activator.values import Caller, Clock, FunctionId
from pilotlight.platform.control.deploying import Applied, check_manages
from pilotlight.platform.control.errors import MissingError, RefusedError, UnavailableError
from pilotlight.platform.database.functions import Functions
from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.applying import Outcome
from pilotlight.platform.kubernetes.errors import InvalidError, KubernetesError, NotFoundError
from pilotlight.platform.kubernetes.kinds import FUNCTION, Key, Object, key_of
from pilotlight.platform.manifest import Function as Manifest
from pilotlight.platform.manifest.objects import to_object

WAIT_SECONDS = 30.0
"""Resolving a model takes less than a second; a store that hangs is said to."""
LOOK_SECONDS = 0.05


class ObjectDeployer:
    """Blocking, so that it is called in a thread."""

    def __init__(
        self,
        api: Api,
        functions: Functions,
        outcome: Callable[[Key], Outcome | None],
        again: Callable[[Key], None],
        clock: Clock,
    ) -> None:
        """`outcome` is what became of an object so far; `again` has one that was refused tried without its pause."""
        self._api = api
        self._functions = functions
        self._outcome = outcome
        self._again = again
        self._clock = clock

    def apply(self, manifests: Sequence[Manifest], caller: Caller) -> tuple[Applied, ...]:
        """Raises RefusedError, ForbiddenError, UnavailableError; all are checked before any is written."""
        objects = [to_object(manifest) for manifest in manifests]
        for found in objects:
            check_manages(caller, FunctionId(*key_of(found)))
        for found in objects:
            self._write(found, dry_run=True)
        before = [self._outcome(key_of(found)) for found in objects]
        existed = [self._functions.get(FunctionId(*key_of(found))) is not None for found in objects]
        written = [self._write(found) for found in objects]
        for taken in written:
            self._again(key_of(taken))
        return tuple(map(self._taken, written, before, existed))

    def delete(self, function: FunctionId, caller: Caller) -> None:
        """Raises MissingError, ForbiddenError, UnavailableError."""
        check_manages(caller, function)
        if self._functions.get(function) is None and self._outcome(Key(*function)) is None:
            raise MissingError(f"there is no function {function}")
        try:
            self._api.delete(FUNCTION, *function)
        except KubernetesError as error:
            raise UnavailableError(f"the API server does not delete {function}: {error.message}") from error

    def _write(self, found: Object, dry_run: bool = False) -> Object:
        try:
            return self._api.apply(FUNCTION, found, dry_run=dry_run)
        except NotFoundError as error:
            namespace = key_of(found).namespace
            message = (
                f"{key_of(found)}: {error.message}; is there a namespace {namespace}? `kubectl create ns` makes it"
            )
            raise RefusedError(message) from error
        except InvalidError as error:
            raise RefusedError(f"{key_of(found)}: {error.message}") from error
        except KubernetesError as error:
            raise UnavailableError(f"the API server does not take {key_of(found)}: {error.message}") from error

    def _taken(self, found: Object, before: Outcome | None, existed: bool) -> Applied:
        """Wait until the operator has made a revision of it, or has said why it cannot.

        A refusal from before does not count: what was lacking may be why it is applied again.
        """
        key, uid, generation = key_of(found), found["metadata"]["uid"], found["metadata"]["generation"]
        deadline = self._clock.monotonic() + WAIT_SECONDS
        while self._clock.monotonic() < deadline:
            outcome = self._outcome(key)
            fits = outcome is not None and outcome.uid == uid and outcome.generation >= generation
            if outcome is not None and fits and not (before and _is_old(outcome, before)):
                change = "created" if not existed else "unchanged" if outcome is before else "updated"
                return self._applied(key, outcome, change)
            sleep(LOOK_SECONDS)
        raise UnavailableError(
            f"{key} is written, but not taken up after {WAIT_SECONDS:.0f} s; see `kubectl describe fn`"
        )

    def _applied(self, key: Key, outcome: Outcome, change: str) -> Applied:
        for judgement in outcome.judgements:
            if judgement.status == "False":
                raise RefusedError(judgement.message)
        if not outcome.done:
            raise UnavailableError(f"{key} is tried again: {outcome.verified.message}")
        function = self._functions.get(FunctionId(*key))
        if function is None:
            raise MissingError(f"{key} was deleted while it was applied")
        revision = next(r for r in self._functions.revisions(function.id) if r.name == function.revision)
        return Applied(function, change, revision.reasons)


def _is_old(outcome: Outcome, before: Outcome) -> bool:
    """Whether it is the refusal that was there before."""
    same = (outcome.uid, outcome.generation) == (before.uid, before.generation)
    return same and not outcome.done and outcome.failures <= before.failures
