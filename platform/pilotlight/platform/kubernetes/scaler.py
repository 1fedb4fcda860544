"""From counts of revisions to what Knative is told: ours are scaled by us, the others get their bounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import structlog

from pilotlight.platform.control import cluster as control
from pilotlight.platform.control.cluster import RevisionId
from pilotlight.platform.kubernetes.kinds import Key
from pilotlight.platform.kubernetes.knative.autoscaler import Autoscaler
from pilotlight.platform.kubernetes.knative.kpa import Bounds, KnativeBounds
from pilotlight.platform.kubernetes.knative.scaling import Wanted
from pilotlight.platform.kubernetes.mirror import Objects

log = structlog.get_logger(__name__)


class KnativeScaler:
    """Blocking; `problems` says what could not be written, by revision."""

    def __init__(self, autoscaler: Autoscaler, bounds: KnativeBounds, autoscalers: Objects) -> None:
        self._autoscaler = autoscaler
        self._bounds = bounds
        self._autoscalers = autoscalers
        self.problems: Mapping[Key, str] = {}

    @property
    def again_seconds(self) -> float | None:
        """When to look again without any news; None: no need."""
        return self._autoscaler.again_seconds

    def reconcile(self, wanted: Mapping[RevisionId, control.Wanted]) -> None:
        ours = {_key(name): _count(each) for name, each in wanted.items() if not each.by_knative}
        theirs = {_key(name): _bounds(each) for name, each in wanted.items() if each.by_knative}
        # Revisions of functions at rest, and replaced ones without a replica on record, are to have none.
        others = {key: Wanted(0) for key in self._autoscalers.objects if key not in ours}
        problems = {**self._autoscaler.reconcile(others | ours), **self._bounds.reconcile(theirs)}
        for key, problem in problems.items():
            if self.problems.get(key) != problem:
                log.warning("revision could not be scaled", revision=str(key), problem=problem)
        self.problems = problems

    def problem(self, namespace: str, revisions: Iterable[str]) -> str:
        """What could not be written of these, one sentence; empty: nothing."""
        found = (self.problems.get(Key(namespace, revision), "") for revision in sorted(revisions))
        return next((problem for problem in found if problem), "")

    def close(self) -> None:
        self._autoscaler.close()
        self._bounds.close()


def _key(revision: RevisionId) -> Key:
    return Key(revision.function.namespace, revision.name)


def _count(wanted: control.Wanted) -> Wanted:
    return Wanted(wanted.replicas, min(wanted.policy.minimum, wanted.policy.maximum))


def _bounds(wanted: control.Wanted) -> Bounds:
    return Bounds(wanted.replicas, wanted.policy.maximum, wanted.slots)
