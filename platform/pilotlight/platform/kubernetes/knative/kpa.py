"""Functions that Knative's own autoscaler scales: it is told between which bounds, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.errors import ConflictError, KubernetesError, NotFoundError
from pilotlight.platform.kubernetes.kinds import REVISION, Key, Object, annotations_of
from pilotlight.platform.kubernetes.knative import names
from pilotlight.platform.kubernetes.mirror import Mirror

TOGETHER = 4


@dataclass(frozen=True)
class Bounds:
    """Of one revision's count, and what one replica should have in flight."""

    minimum: int
    maximum: int
    target: int


def change(revision: Object, bounds: Bounds) -> Mapping[str, str]:
    """Annotations of the Revision that differ: those may be changed, and Knative hands them on to its autoscaler."""
    maximum = max(1, bounds.maximum)  # 0 would be no bound at all
    wanted = {
        names.MIN_SCALE: str(min(bounds.minimum, maximum)),
        names.MAX_SCALE: str(maximum),
        names.TARGET: str(max(1, bounds.target)),
    }
    return dict(wanted.items() - annotations_of(revision).items())


class KnativeBounds:
    """Blocking, level-triggered."""

    def __init__(self, api: Api, revisions: Mirror) -> None:
        self._api = api
        self._revisions = revisions
        self._threads = ThreadPoolExecutor(TOGETHER, thread_name_prefix="bounds")

    def reconcile(self, wanted: Mapping[Key, Bounds]) -> Mapping[Key, str]:
        """Write what differs; what could not be written, by revision, one sentence."""
        revisions = self._revisions.objects
        changes = {
            key: changed
            for key, bounds in wanted.items()
            if key in revisions and (changed := _of(revisions[key], bounds))
        }
        answers = self._threads.map(self._write, changes, changes.values())
        return {key: problem for key, problem in zip(changes, answers, strict=True) if problem}

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def _write(self, key: Key, annotations: Mapping[str, str]) -> str:
        try:
            self._api.patch(REVISION, *key, {"metadata": {"annotations": annotations}})
        except (ConflictError, NotFoundError):
            return ""
        except KubernetesError as error:
            return str(error)
        return ""


def _of(revision: Object, bounds: Bounds) -> Mapping[str, str]:
    return {} if "deletionTimestamp" in revision["metadata"] else change(revision, bounds)
