"""Revisions at rest are not decided about again, and nothing else is different."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.platform.kubernetes.knative.test_scaling import VIEWS, settled, view

from pilotlight.platform.kubernetes.kinds import Key
from pilotlight.platform.kubernetes.knative import resting
from pilotlight.platform.kubernetes.knative.resting import Resting
from pilotlight.platform.kubernetes.knative.scaling import View, Wanted, decide

KEY = Key("team", "chat-00001")


def versioned(found: View) -> View:
    """Every content has a version of its own, as the API server gives it."""
    service = None if found.service is None else _versioned(found.service)
    return replace(found, autoscaler=_versioned(found.autoscaler), service=service)


def _versioned(found: Mapping[str, Any]) -> dict[str, Any]:
    return {**found, "metadata": {**found["metadata"], "resourceVersion": json.dumps(found, sort_keys=True)}}


@given(VIEWS, VIEWS, st.floats(0, 1e6))
def test_it_decides_as_it_would_without_a_memory(first: View, second: View, later: float) -> None:
    remembers = Resting()
    for seen in (first, settled(first), second, settled(second)):
        now = versioned(seen)
        assert remembers.decide(KEY, now) == decide(now)
        again = replace(now, now=now.now + later)
        assert remembers.decide(KEY, again) == decide(again)


def test_what_has_not_changed_is_not_decided_again(monkeypatch: Any) -> None:
    asked: list[View] = []

    def counted(seen: View) -> Any:
        asked.append(seen)
        return decide(seen)

    monkeypatch.setattr(resting, "decide", counted)
    remembers, rests = Resting(), versioned(settled(view()))
    for _ in range(3):
        remembers.decide(KEY, rests)
    assert len(asked) == 1

    remembers.decide(KEY, replace(rests, wanted=Wanted(1)))
    assert len(asked) == 2

    remembers.keep(())
    remembers.decide(KEY, rests)
    remembers.keep(())
    remembers.decide(KEY, rests)
    assert len(asked) == 4
