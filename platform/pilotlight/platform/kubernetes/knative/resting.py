"""Which revisions are as they should be, so that a thousand at rest cost next to nothing in every look."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from pilotlight.platform.kubernetes.kinds import Key, Object
from pilotlight.platform.kubernetes.knative.scaling import View, Wanted, Writes, decide

NOTHING = Writes()


class _Inputs(NamedTuple):
    """What a decision comes from, but for the time: one that nothing follows from and that waits for nothing."""

    autoscaler: str
    """Its version, as the next one's."""
    service: str | None
    replicas: int | None
    ready: int
    wanted: Wanted | None


class Resting:
    """`decide`, which is not asked again about what has not changed."""

    def __init__(self) -> None:
        self._inputs: dict[Key, _Inputs] = {}

    def decide(self, key: Key, view: View) -> Writes:
        inputs = _Inputs(
            _version(view.autoscaler),
            None if view.service is None else _version(view.service),
            view.replicas,
            view.ready,
            view.wanted,
        )
        if self._inputs.get(key) == inputs:
            return NOTHING
        writes = decide(view)
        if writes == NOTHING:
            self._inputs[key] = inputs
        else:
            self._inputs.pop(key, None)
        return writes

    def keep(self, keys: Collection[Key]) -> None:
        """Forget all others."""
        self._inputs = {key: inputs for key, inputs in self._inputs.items() if key in keys}


def _version(found: Object) -> str:
    return str(found["metadata"]["resourceVersion"])
