"""What running replicas count becomes what is known of their speed, and the cap of every revision. No I/O but the log.

Revisions of the same model on the same hardware with the same settings share what is learned; the limits that only say
how many requests an engine takes, and how long ones, are not among those settings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import structlog

from pilotlight.activator.values import FunctionId
from pilotlight.platform.control.cluster import RevisionId
from pilotlight.platform.control.state import Known
from pilotlight.platform.values import DecisionRecord, Policy, Template
from pilotlight.recommender.capping import CapDecision, CapReason, CapState, follow
from pilotlight.recommender.learning import Counters, window
from pilotlight.recommender.performance import Observation, Performance
from pilotlight.recommender.workload import Slo

INCIDENT_SECONDS = 60.0
"""After a replica has failed, caps stay for so long."""
_LIMITS = ("max_num_seqs", "max_model_len")
TOLD = (CapReason.BROKEN, CapReason.LOWERED, CapReason.RAISED, CapReason.UNREACHABLE)
"""Reasons that are recorded, when cap or reason has changed."""

log = structlog.get_logger(__name__)


@dataclass
class Followed:
    """One revision."""

    state: CapState
    speed: str
    """What it shares its performance by."""
    told: CapReason = CapReason.KEPT
    """Of the last decision that was recorded."""
    busiest: float = 0.0
    """Most requests in flight per replica that were seen."""


@dataclass
class Follower:
    """The memory of it; `look` once a round."""

    known: Known
    performances: dict[str, Performance] = field(default_factory=dict)
    followed: dict[RevisionId, Followed] = field(default_factory=dict)
    _last: dict[str, Counters] = field(default_factory=dict)
    """By replica."""
    _touched: set[FunctionId] = field(default_factory=set)

    def look(self, now: float) -> list[DecisionRecord]:
        """Take in what is new and set `known.caps`; returns what was decided, to be recorded. `now`: Unix time."""
        records = [self._try_to_follow(at, seen, now) for at, seen in self._observations().items()]
        return [record for record in records if record is not None]

    def performance(self, at: RevisionId) -> Performance | None:
        followed = self.followed.get(at)
        return self.performances.get(followed.speed) if followed else None

    def take_touched(self) -> frozenset[FunctionId]:
        """Functions with new observations since the last call."""
        touched, self._touched = frozenset(self._touched), set()
        return touched

    def in_trouble(self, at: RevisionId, now: float) -> bool:
        """Whether starts are backing off, or a replica has just failed. `now`: Unix time."""
        memory = self.known.memory_of(*at)
        return memory is not None and (
            memory.state.back_off.failures > 0 or 0 <= now - memory.crashed_at < INCIDENT_SECONDS
        )

    def _observations(self) -> dict[RevisionId, list[Observation]]:
        seen: dict[RevisionId, list[Observation]] = defaultdict(list)
        last: dict[str, Counters] = {}
        for name, live in self.known.live.items():
            told = live.status.counters if live.status is not None else None
            before = self._last.get(name)
            if told is None or not live.wanted:
                continue
            if before is not None and before.at == told.at:
                last[name] = before
                continue
            last[name] = Counters(**asdict(told))
            if before is not None and (observation := _window(name, before, last[name])):
                seen[RevisionId(live.record.function, live.record.revision)].append(observation)
        self._last = last
        return seen

    def _try_to_follow(self, at: RevisionId, seen: Sequence[Observation], now: float) -> DecisionRecord | None:
        try:
            return self._follow(at, seen, now)
        except Exception:  # caps are a help; a round is what every function lives by
            log.exception("a cap cannot be decided; the last one stays", revision=at.name)
            return None

    def _follow(self, at: RevisionId, seen: Sequence[Observation], now: float) -> DecisionRecord | None:
        function, revision = self.known.functions.get(at.function), self.known.revisions.get(at)
        memory = self.known.memory_of(*at)
        if function is None or revision is None or memory is None:
            return None  # another revision has taken over
        followed = self._of(at, revision.template)
        self._touched.add(at.function)
        followed.busiest = max(followed.busiest, *(observation.batch for observation in seen))
        decision, performance = follow(
            followed.state,
            self.performances.get(followed.speed),
            seen,
            slo_of(function.policy),
            revision.template.slots,
            incident=self.in_trouble(at, now),
        )
        if performance is not None:
            self.performances[followed.speed] = performance
        told = _worth_telling(followed, decision)
        followed.state = decision.state
        self.known.caps[at] = decision.state.cap
        if not told:
            return None
        followed.told = decision.reason
        reason, inputs = decision.reason.value, {**decision.inputs, "decided": decision.state.cap}
        return DecisionRecord(now, *at, memory.state.desired, reason, decision.sentence, inputs)

    def _of(self, at: RevisionId, template: Template) -> Followed:
        if at not in self.followed:
            self._forget()
            self.followed[at] = Followed(CapState(template.slots), speed_of(template))
        return self.followed[at]

    def _forget(self) -> None:
        """Revisions that others have replaced, and speeds that nobody has any more."""
        for gone in [at for at in self.followed if self.known.memory_of(*at) is None]:
            del self.followed[gone]
            self.known.caps.pop(gone, None)
        used = {followed.speed for followed in self.followed.values()}
        for speed in self.performances.keys() - used:
            del self.performances[speed]


def slo_of(policy: Policy) -> Slo:
    """What a function promises."""
    return Slo(ttft=policy.ttft_seconds, itl=policy.itl_seconds)


def speed_of(template: Template) -> str:
    """Equal for revisions that are equally fast."""
    options = {name: value for name, value in template.options.items() if name not in _LIMITS}
    parts = (template.digest, template.kind, template.accelerator, template.devices, template.cpus, template.adapters)
    return repr((*parts, sorted(options.items()), sorted(template.environment.items())))


def _worth_telling(before: Followed, decision: CapDecision) -> bool:
    changed = decision.state.cap != before.state.cap or decision.reason is not before.told
    return decision.reason in TOLD and changed


def _window(replica: str, before: Counters, after: Counters) -> Observation | None:
    try:
        return window(before, after)
    except Exception:  # what one pod says must not fail a round of all functions
        log.exception("what an engine has counted cannot be read and is left out", replica=replica)
        return None
