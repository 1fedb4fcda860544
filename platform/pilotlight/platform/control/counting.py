"""From single replicas to a count per revision, for clusters that bring about counts. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from pilotlight.platform.control.cluster import RevisionId, Wanted
from pilotlight.platform.control.state import Known, Live
from pilotlight.platform.control.world import Plan
from pilotlight.platform.values import Policy, Revision

NO_MORE = Policy(maximum=0)
"""Of a revision that another one has replaced, or whose function is deleted."""


def scaled_by_knative(revision: Revision) -> bool:
    """Knative's own autoscaler brings about the count; ours gives it a floor."""
    return revision.template.autoscaler == "kpa"


def beside_policy(policy: Policy) -> Policy:
    """Of a revision beside the function's own: the minimum is kept by the latter alone."""
    return replace(policy, minimum=0)


def wanted(known: Known, plan: Plan) -> dict[RevisionId, Wanted]:
    """What there should be of every revision that was decided about, and of every other that still has replicas."""
    decided = {RevisionId(name, known.functions[name].revision): each for name, each in plan.decisions.items()}
    current = {revision: known.functions[revision.function].policy for revision in decided}
    current |= {revision: beside_policy(known.functions[revision.function].policy) for revision in plan.beside}
    decided |= plan.beside
    replicas: dict[RevisionId, list[Live]] = defaultdict(list)
    for live in known.live.values():
        replicas[RevisionId(live.record.function, live.record.revision)].append(live)
    counts = {revision: _wanted(replicas[revision], NO_MORE) for revision in replicas.keys() - current.keys()}
    for revision, policy in current.items():
        slots = known.slots(known.revisions[revision])
        if scaled_by_knative(known.revisions[revision]):
            counts[revision] = Wanted(decided[revision].desired, policy, slots=slots, by_knative=True)
        else:
            counts[revision] = _wanted(replicas.get(revision, []), policy, slots)
    return counts


def _wanted(replicas: list[Live], policy: Policy, slots: int = 1) -> Wanted:
    """Those that were asked to end are on their way; the others stay, if only until their streams have ended."""
    leaving = frozenset(live.record.id for live in replicas if live.asked_at is not None)
    return Wanted(len(replicas) - len(leaving), policy, leaving, slots)
