"""Conditions as Knative's own controllers write them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pilotlight.platform.kubernetes.kinds import Object
from pilotlight.platform.kubernetes.status import Judgement, timestamp

TRUE = Judgement("True", "")


def unknown(reason: str, message: str = "") -> Judgement:
    return Judgement("Unknown", reason, message)


def false(reason: str, message: str = "") -> Judgement:
    return Judgement("False", reason, message)


def happy(parts: Collection[Judgement]) -> Judgement:
    """What Ready is: the first part that is false, else the first that is unknown, else true."""
    for status in ("False", "Unknown"):
        for part in parts:
            if part.status == status:
                return part
    return TRUE


def written(found: Object, parts: Mapping[str, Judgement], now: float) -> list[dict[str, Any]]:
    """The whole list with Ready, as a merge patch needs it; the time of a transition moves only with the status."""
    judged = {**parts, "Ready": happy(parts.values())}
    known = {each["type"]: each for each in found.get("status", {}).get("conditions") or ()}
    return [_condition(known.get(name, {}), name, judged[name], now) for name in sorted(judged)]


def _condition(known: Mapping[str, Any], name: str, judged: Judgement, now: float) -> dict[str, Any]:
    since = known.get("lastTransitionTime") if known.get("status") == judged.status else None
    texts = {"reason": judged.reason, "message": judged.message}
    return {
        "type": name,
        "status": judged.status,
        "lastTransitionTime": since or timestamp(now),
        **{field: text for field, text in texts.items() if text},
    }
