"""What the activator is told of each function: where new work goes, how far a start is, and why it cannot. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pilotlight.activator.values import Replica, RevisionFacts, Route, StartProgress
from pilotlight.detector.values import BackOff
from pilotlight.platform.control.world import FunctionView
from pilotlight.platform.values import Revision
from pilotlight.recommender import remaining
from pilotlight.runtime.spec import Phase, ReplicaState, ReplicaStatus

PATIENT_FAILURES = 3
"""A replica that had served and died is replaced this often before callers are told that the function fails."""


@dataclass(frozen=True)
class Served:
    """One replica that the activator may know of."""

    id: str
    revision: Revision
    status: ReplicaStatus | None
    wanted: bool
    """False: it leaves, running streams only."""
    was_ready: bool
    slots: int | None = None
    """Requests that it takes just now; None: as many as its engine does."""


def route(
    view: FunctionView,
    serving: Revision,
    replicas: Sequence[Served],
    eta: Mapping[str, float],
    back_off: BackOff,
    now: float,
    beside: Sequence[RevisionFacts] = (),
) -> Route:
    """The route of one function.

    Args:
        view: The function.
        serving: The revision that new work goes to.
        replicas: All of the function's.
        eta: Expected seconds of each phase of its next start.
        back_off: Its crashes.
        now: Unix time.
        beside: Other revisions that have a share of the traffic; see `facts`.
    """
    template = serving.template
    apart = {each.revision for each in beside}
    own = [served for served in replicas if served.revision.name not in apart]
    failure, retry_after = _failure(back_off, own, now)
    return Route(
        function=view.id,
        revision=serving.name,
        task=template.task,
        model=view.id.name,
        context=template.context,
        tokenizer=Path(template.tokenizer) if template.tokenizer else None,
        adapters=tuple(name for name, _ in template.adapters),
        slo_class=view.policy.slo_class,
        deadline_seconds=view.policy.deadline_seconds,
        replicas=tuple(_replica(served, {serving.name} | apart) for served in replicas if _reachable(served)),
        start=_progress(own, eta, now),
        start_eta_seconds=sum(eta.values()),
        failure=failure,
        retry_after_seconds=retry_after,
        revisions=tuple(beside),
    )


def facts(
    revision: Revision, replicas: Sequence[Served], eta: Mapping[str, float], back_off: BackOff, now: float
) -> RevisionFacts:
    """What is a revision's own in its function's route; arguments as of `route`, `replicas` those of the revision."""
    template = revision.template
    failure, retry_after = _failure(back_off, replicas, now)
    return RevisionFacts(
        revision=revision.name,
        task=template.task,
        model=revision.function.name,
        context=template.context,
        tokenizer=Path(template.tokenizer) if template.tokenizer else None,
        adapters=tuple(name for name, _ in template.adapters),
        start=_progress(replicas, eta, now),
        start_eta_seconds=sum(eta.values()),
        failure=failure,
        retry_after_seconds=retry_after,
    )


def _reachable(served: Served) -> bool:
    return served.was_ready and served.status is not None and bool(served.status.endpoint)


def _replica(served: Served, taking: Collection[str]) -> Replica:
    assert served.status is not None
    ready = served.status.state is ReplicaState.READY and served.wanted
    return Replica(
        id=served.id,
        revision=served.revision.name,
        url=served.status.endpoint,
        engine_key=served.revision.engine_key,
        slots=served.revision.template.slots if served.slots is None else served.slots,
        accepting=ready and served.revision.name in taking,
    )


def _progress(replicas: Sequence[Served], eta: Mapping[str, float], now: float) -> StartProgress | None:
    """Of the start that is nearest to its end."""
    starts = [
        start_progress(served.status, eta, now)
        for served in replicas
        if served.wanted and served.status is not None and served.status.state is ReplicaState.STARTING
    ]
    return min(starts, key=lambda start: start.eta_seconds, default=None)


def start_progress(status: ReplicaStatus, eta: Mapping[str, float], now: float) -> StartProgress:
    """How far a start is, and how long it will take yet; `eta` by phase, `now` in Unix time."""
    if not status.phases:
        return StartProgress(Phase.SCHEDULE.value, None, sum(eta.values()), now)
    last = status.phases[-1]
    left = remaining(eta, last.name.value, max(0.0, now - last.start), last.progress)
    percent = None if last.progress is None else min(100, max(0, round(100 * last.progress)))
    return StartProgress(last.name.value, percent, left, status.phases[0].start)


def _failure(back_off: BackOff, replicas: Sequence[Served], now: float) -> tuple[str, float]:
    hopeful = any(served.wanted for served in replicas)
    told = not back_off.served or back_off.failures >= PATIENT_FAILURES
    wait = back_off.wait(now)
    if hopeful or not told or back_off.failures == 0 or not wait:
        return "", 0.0
    return back_off.message, wait


def phase_seconds(status: ReplicaStatus) -> dict[str, float]:
    """How long each phase of a finished start took."""
    return {
        report.name.value: report.end - report.start
        for report in status.phases
        if report.end is not None and report.name is not Phase.READY
    }


def failure_text(status: ReplicaStatus, limit: int = 600) -> str:
    """Why it failed, with the last lines of the engine's log."""
    message = status.message.rstrip(".") or "the engine failed"
    lines = [line.strip() for line in status.log_tail if line.strip()]
    text = f"{message}; the log ends: {' | '.join(lines[-3:])}" if lines else message
    return text if len(text) <= limit else text[: limit - 3] + "..."
