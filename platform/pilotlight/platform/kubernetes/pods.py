"""What a pod says of the replica in it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from pilotlight.platform.kubernetes.kinds import Object, condition, labels_of
from pilotlight.platform.kubernetes.knative.names import REVISION_LABEL, secret_name
from pilotlight.runtime.spec import Phase, PhaseReport, ReplicaState, ReplicaStatus

QUEUE_PROXY_PORT = 8012
"""Where Knative's queue-proxy takes requests for the user container."""
USER_CONTAINER = "user-container"
SCALED_UP = "TriggeredScaleUp"
HOPELESS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "CrashLoopBackOff",
    }
)
"""Reasons for which a container waits that do not go away by waiting."""
_MISSING_SECRET = re.compile(r'secrets? "([^"]+)" not found')
"""As Kubernetes tells what keeps a container from being made."""
STATUS_UNKNOWN = "ContainerStatusUnknown"
"""Kubernetes' own word of a container that it has lost sight of."""
MESSAGE_LIMIT = 600
QUEUE_PROXY_SECONDS = 60.0
"""Knative's queue-proxy waits for half of it before it passes on that the pod ends."""
UNHEARD_SECONDS = 45.0
"""What ends by itself without having served has done so by then."""


def seconds_of(timestamp: str | None) -> float:
    """Unix time of an RFC 3339 timestamp; 0: there is none."""
    return datetime.fromisoformat(timestamp).timestamp() if timestamp else 0.0


def address(pod: Object) -> str:
    """Where it takes requests; empty: it has no address yet."""
    ip = pod["status"].get("podIP", "")
    host = f"[{ip}]" if ":" in ip else ip
    return f"http://{host}:{QUEUE_PROXY_PORT}" if ip else ""


def leaves(pod: Object) -> bool:
    """Whether it was told to end."""
    return "deletionTimestamp" in pod["metadata"]


def overdue(pod: Object, served: bool, drain_seconds: float, now: float) -> bool:
    """Whether a pod that was told to end should have done so long ago.

    A container that is told before its process listens to signals does not hear it, and would keep its accelerator for
    the whole of the grace period: as long as the longest request.

    Args:
        pod: As the API server has it.
        served: Whether it has been ready: it may have streams to end.
        drain_seconds: What those may take.
        now: Unix time.
    """
    if not leaves(pod):
        return False
    metadata = pod["metadata"]
    told = seconds_of(metadata["deletionTimestamp"]) - float(metadata.get("deletionGracePeriodSeconds") or 0)
    return now - told > (drain_seconds + QUEUE_PROXY_SECONDS if served else UNHEARD_SECONDS)


def is_ready(pod: Object) -> bool:
    return bool(condition(pod, "Ready").get("status") == "True")


def status_of(pod: Object, said: ReplicaStatus | None, patience: float, now: float) -> ReplicaStatus:
    """The replica in the pod.

    Args:
        pod: As the API server has it.
        said: What its supervisor last said of itself; None: nothing yet.
        patience: How long it may find no node before it counts as failed, seconds.
        now: Unix time.
    """
    counters = said.counters if said is not None else None
    base = ReplicaStatus(
        pod["metadata"]["name"], "", ReplicaState.STARTING, _phases(pod, said), address(pod), counters=counters
    )
    if failure := failure_of(pod, patience, now):
        return replace(base, state=ReplicaState.FAILED, message=failure)
    if leaves(pod):
        return replace(base, state=ReplicaState.DRAINING)
    if is_ready(pod) or (said is not None and said.state is ReplicaState.READY):
        return replace(base, state=ReplicaState.READY)
    return replace(base, message=waits_for(pod))


def failure_of(pod: Object, patience: float, now: float) -> str:
    """Why it will not become ready, one sentence; empty: it may, or it was told to end and nothing else is known."""
    failed = pod["status"] if pod["status"].get("phase") == "Failed" else {}
    if failed.get("reason") and failed.get("message"):  # evicted, or its node went: the containers say no more of it
        return _short(failed["message"])
    for status in _containers(pod):
        text = _left_word(status) if leaves(pod) else _container_failure(status)
        if text and not _lacks_secret(pod, status):  # which is written again
            return _short(text)
    if failed and not leaves(pod):
        return _short(failed.get("message") or failed.get("reason") or "the pod failed")
    scheduled = condition(pod, "PodScheduled")
    since = seconds_of(scheduled.get("lastTransitionTime")) or seconds_of(pod["metadata"].get("creationTimestamp"))
    if scheduled.get("reason") == "Unschedulable" and now - since >= patience:
        return _short(f"no node takes the pod: {scheduled.get('message', '')}")
    return ""


def waits_for(pod: Object) -> str:
    """What keeps it from starting just now; empty: nothing that is told."""
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return _short(scheduled.get("message", ""))
    return "the Secret of its revision is gone and is written again" if lacks_secret(pod) else ""


def lacks_secret(pod: Object) -> bool:
    """Whether a container cannot start because the Secret of the pod's revision is gone."""
    return any(_lacks_secret(pod, status) for status in _containers(pod))


def _lacks_secret(pod: Object, status: Mapping[str, Any]) -> bool:
    waiting = (status.get("state") or {}).get("waiting") or {}
    found = _MISSING_SECRET.search(waiting.get("message") or "")
    return found is not None and found[1] == secret_name(labels_of(pod).get(REVISION_LABEL, ""))


def _containers(pod: Object) -> Iterator[Mapping[str, Any]]:
    yield from pod["status"].get("initContainerStatuses") or ()
    yield from pod["status"].get("containerStatuses") or ()


def _container_failure(status: Mapping[str, Any]) -> str:
    state, last = status.get("state") or {}, status.get("lastState") or {}
    ended = state.get("terminated") or last.get("terminated")
    waiting = state.get("waiting") or {}
    if "terminated" in state and state["terminated"].get("exitCode") != 0:
        return _ended(status, state["terminated"])
    if waiting.get("reason") == "CrashLoopBackOff" and ended:
        return _ended(status, ended)
    if waiting.get("reason") in HOPELESS:
        return f"{waiting['reason']}: {waiting.get('message') or status.get('image', '')}"
    return ""


def _left_word(status: Mapping[str, Any]) -> str:
    """The reason that a supervisor has left, if it has: how else a container ends that is told to says nothing."""
    ended = (status.get("state") or {}).get("terminated") or {}
    lost = ended.get("exitCode") == 0 or ended.get("reason") == STATUS_UNKNOWN
    return "" if lost else str(ended.get("message") or "").strip()


def _ended(status: Mapping[str, Any], ended: Mapping[str, Any]) -> str:
    """A supervisor leaves its reason where Kubernetes shows it; a kernel that runs out of memory leaves none."""
    message = str(ended.get("message") or "").strip()
    if message:
        return message
    if ended.get("reason") == "OOMKilled":
        return f"{status['name']} used more memory than its limit and was ended; raise resources.memory"
    return f"{status['name']} ended with code {ended.get('exitCode')} ({ended.get('reason', 'no reason')})"


def _phases(pod: Object, said: ReplicaStatus | None) -> tuple[PhaseReport, ...]:
    """Kubernetes' part comes first: from the pod's creation to the start of its container."""
    created = seconds_of(pod["metadata"].get("creationTimestamp"))
    own = tuple(report for report in (said.phases if said else ()) if report.name is not Phase.SCHEDULE)
    started = own[0].start if own else 0.0
    first = PhaseReport(Phase.SCHEDULE, created, max(created, started) if started else None, detail=waits_for(pod))
    return (first, *own)


def _short(text: str) -> str:
    return text if len(text) <= MESSAGE_LIMIT else text[: MESSAGE_LIMIT - 3] + "..."
