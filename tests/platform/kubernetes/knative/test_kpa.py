"""The bounds that Knative's own autoscaler is given."""

from __future__ import annotations

from typing import Any

import pytest

from pilotlight.platform.kubernetes.knative.kpa import Bounds, change


def revision(**annotations: str) -> dict[str, Any]:
    own = {f"autoscaling.knative.dev/{name.replace('_', '-')}": text for name, text in annotations.items()}
    return {"metadata": {"namespace": "team", "name": "chat-00001", "annotations": own}}


def changed(found: dict[str, Any], bounds: Bounds) -> dict[str, str]:
    return {name.rpartition("/")[2]: text for name, text in change(found, bounds).items()}


def test_only_what_differs_is_changed() -> None:
    found = revision(min_scale="0", max_scale="3", target="8", initial_scale="0")

    assert changed(found, Bounds(0, 3, 8)) == {}
    assert changed(found, Bounds(2, 3, 8)) == {"min-scale": "2"}
    assert changed(revision(), Bounds(1, 3, 8)) == {"min-scale": "1", "max-scale": "3", "target": "8"}


@pytest.mark.parametrize(
    ("bounds", "minimum", "maximum"),
    [(Bounds(2, 1, 8), "1", "1"), (Bounds(0, 0, 8), "0", "1"), (Bounds(1, 0, 8), "1", "1")],
)
def test_bounds_that_knative_would_refuse_or_take_for_none_are_never_sent(
    bounds: Bounds, minimum: str, maximum: str
) -> None:
    found = changed(revision(), bounds)

    assert (found["min-scale"], found["max-scale"]) == (minimum, maximum)
