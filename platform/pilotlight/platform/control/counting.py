"""From single replicas to a count per revision, for clusters that bring about counts. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from pilotlight.activator.values import FunctionId
from pilotlight.detector.values import Decision
from pilotlight.platform.control.cluster import RevisionId, Wanted
from pilotlight.platform.control.state import Known, Live
from pilotlight.platform.values import Policy, Revision

NO_MORE = Policy(maximum=0)
"""Of a revision that another one has replaced, or whose function is deleted."""


def scaled_by_knative(revision: Revision) -> bool:
    """Knative's own autoscaler brings about the count; ours gives it a floor."""
    return revision.template.autoscaler == "kpa"


def wanted(known: Known, decisions: Mapping[FunctionId, Decision]) -> dict[RevisionId, Wanted]:
    """What there should be of every current revision, and of every other that still has replicas."""
    current = {RevisionId(name, function.revision): function for name, function in known.functions.items()}
    replicas: dict[RevisionId, list[Live]] = defaultdict(list)
    for live in known.live.values():
        replicas[RevisionId(live.record.function, live.record.revision)].append(live)
    counts = {revision: _wanted(replicas[revision], NO_MORE) for revision in replicas.keys() - current.keys()}
    for revision, function in current.items():
        slots = known.revisions[revision].template.slots
        if scaled_by_knative(known.revisions[revision]):
            desired = decisions[revision.function].desired
            counts[revision] = Wanted(desired, function.policy, slots=slots, by_knative=True)
        else:
            counts[revision] = _wanted(replicas.get(revision, []), function.policy, slots)
    return counts


def _wanted(replicas: list[Live], policy: Policy, slots: int = 1) -> Wanted:
    """Those that were asked to end are on their way; the others stay, if only until their streams have ended."""
    leaving = frozenset(live.record.id for live in replicas if live.asked_at is not None)
    return Wanted(len(replicas) - len(leaving), policy, leaving, slots)
