"""From Function objects to functions of the database: resolved, sized and given a revision, or refused with the reason.

Level-triggered: each look compares every object with what was made of it. One that was refused is tried again after a
while, because what it lacked (a model, a node) may have come.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import structlog

from pilotlight.activator.values import Caller, Clock, FunctionId
from pilotlight.platform.control.deploying import Deployer
from pilotlight.platform.control.errors import ForbiddenError, MissingError, ModelError, PlatformError, UnavailableError
from pilotlight.platform.database.functions import Functions
from pilotlight.platform.kubernetes.kinds import Key, Object
from pilotlight.platform.kubernetes.status import GOOD, PENDING, Judgement
from pilotlight.platform.manifest import ManifestError
from pilotlight.platform.manifest.objects import from_object

CALLER = "kubernetes"
"""The key that audit rows of `kubectl apply` carry; the API server has let its user in."""
RETRY_SECONDS = 5.0
RETRY_MOST_SECONDS = 300.0
TOGETHER = 4
"""Objects that are resolved at once: each reads a few small objects of the model store."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of one generation of an object."""

    uid: str
    generation: int
    verified: Judgement = PENDING
    sized: Judgement = PENDING
    failures: int = 0
    retry_at: float = 0.0
    """Monotonic; 0: it is done."""

    @property
    def judgements(self) -> tuple[Judgement, Judgement]:
        return self.verified, self.sized

    @property
    def done(self) -> bool:
        return self.retry_at == 0.0


@dataclass
class Applier:
    """Blocking. `outcomes` is for the status of the objects."""

    deployer: Deployer
    functions: Functions
    clock: Clock
    outcomes: dict[Key, Outcome] = field(default_factory=dict)

    def reconcile(self, objects: Mapping[Key, Object]) -> bool:
        """Apply what is new, delete what is gone; True: something has changed."""
        known = {Key(*function.id): function.manifest for function in self.functions.all()}
        alive = {key: found for key, found in objects.items() if "deletionTimestamp" not in found["metadata"]}
        due = {key: found for key, found in alive.items() if self._due(key, found, known.get(key))}
        with ThreadPoolExecutor(TOGETHER, thread_name_prefix="applying") as threads:
            outcomes = threads.map(lambda pair: self._apply(*pair), due.items())
            self.outcomes |= dict(zip(due, outcomes, strict=True))
        gone = known.keys() - alive.keys()
        for key in gone:
            self._delete(key)
        for key in self.outcomes.keys() - objects.keys():
            del self.outcomes[key]
        return bool(due or gone)

    def again(self, key: Key) -> None:
        """One that was refused is due at the next look; may be called from any thread."""
        outcome = self.outcomes.get(key)
        if outcome is not None and not outcome.done:
            self.outcomes[key] = replace(outcome, retry_at=self.clock.monotonic())

    def next_try(self) -> float | None:
        """Monotonic time at which a refused one is due; None: none is."""
        return min((outcome.retry_at for outcome in self.outcomes.values() if not outcome.done), default=None)

    def _due(self, key: Key, found: Object, known: Mapping[str, object] | None) -> bool:
        metadata = found["metadata"]
        outcome = self.outcomes.get(key)
        if outcome is not None and (outcome.uid, outcome.generation) == (metadata["uid"], metadata["generation"]):
            return not outcome.done and self.clock.monotonic() >= outcome.retry_at
        if outcome is None and known is not None and known == _content(found):
            # After a restart: a tag is resolved when a manifest changes, not when the operator does.
            self.outcomes[key] = Outcome(metadata["uid"], metadata["generation"], GOOD, GOOD)
            return False
        return True

    def _apply(self, key: Key, found: Object) -> Outcome:
        metadata = found["metadata"]
        before = self.outcomes.get(key)
        same = before is not None and (before.uid, before.generation) == (metadata["uid"], metadata["generation"])
        failures = before.failures if before is not None and same else 0
        verified, sized = self._judge(key, found)
        if sized is GOOD:
            return Outcome(metadata["uid"], metadata["generation"], verified, sized)
        wait = min(RETRY_MOST_SECONDS, RETRY_SECONDS * 2**failures)
        retry_at = self.clock.monotonic() + wait
        return Outcome(metadata["uid"], metadata["generation"], verified, sized, failures + 1, retry_at)

    def _judge(self, key: Key, found: Object) -> tuple[Judgement, Judgement]:
        """The conditions ModelVerified and Sized."""
        try:
            manifest = from_object(found)
            caller = Caller(CALLER, frozenset({key.namespace}))
            [applied] = self.deployer.apply([manifest], caller)
            log.info("function applied", function=str(key), change=applied.change, revision=applied.function.revision)
            return GOOD, GOOD
        except ManifestError as error:
            return Judgement("False", "InvalidManifest", "; ".join(map(str, error.items))), PENDING
        except (ModelError, ForbiddenError, MissingError, UnavailableError) as error:
            return Judgement("False", _reason(error), error.message), PENDING
        except PlatformError as error:
            return GOOD, Judgement("False", "Refused", _words(error))
        except Exception as error:
            log.exception("function could not be applied", function=str(key))
            return Judgement("Unknown", "Error", f"{type(error).__name__}: {error}"[:500]), PENDING

    def _delete(self, key: Key) -> None:
        try:
            self.deployer.delete(FunctionId(*key), Caller(CALLER, frozenset({key.namespace})))
            log.info("function deleted", function=str(key))
        except MissingError:
            pass


def _content(found: Object) -> Mapping[str, object] | None:
    try:
        return from_object(found).to_dict()
    except ManifestError:
        return None


def _reason(error: PlatformError) -> str:
    names: dict[type[PlatformError], str] = {ForbiddenError: "ModelForbidden", UnavailableError: "StoreUnavailable"}
    return names.get(type(error), "ModelNotFound")


def _words(error: PlatformError) -> str:
    return "; ".join((error.message, *error.details)) if error.details else error.message
