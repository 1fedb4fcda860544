"""The status of a Function object: what people read of it, and the part that activators route by. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from pilotlight.activator.values import Route
from pilotlight.platform.kubernetes.kinds import Object, condition
from pilotlight.platform.manifest.references import RegistryReference, parse_reference
from pilotlight.platform.values import Revision, Template

CONDITIONS = ("ModelVerified", "Sized", "Routed")
"""What Ready is made of, in the order in which they come about."""
TUNED = "Tuned"
"""Whether no setting is recommended otherwise; nothing depends on it."""
MESSAGE_LIMIT = 1024
UNKNOWN_CONTEXT = 10**9
"""No request is too long for a function of which nothing is known."""
REFUSED_SECONDS = 30.0
"""After which callers of a function that was refused may try again."""


class _Part(BaseModel):
    # Fields that are not known are passed over: an activator that is older than the operator must go on serving.
    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )


class PublishedRevision(_Part):
    """What requests to one revision are served by."""

    revision: str
    task: str
    model: str
    source: str
    """Reference of the model by its digest; empty: there is none, the engine is simulated."""
    context: int
    slots: int
    """Requests that one replica serves at once."""
    adapters: tuple[str, ...] = ()
    autoscaler: str = "pilotlight"
    eta: Mapping[str, float] = {}
    """Expected seconds of each phase of the next start."""
    failure: str = ""
    retry_at: float = 0.0
    """Unix time at which the next start is due; with `failure`."""


class Published(PublishedRevision):
    """`status.route`: a route without its replicas, which activators see for themselves.

    Its own fields of a revision are those of the one that new work goes to where nothing is split.
    """

    slo_class: str = "interactive"
    deadline_seconds: float | None = None
    hold_seconds: float = 600.0
    max_held: int = 1000
    """Requests that may wait in all activators together."""
    leaving: tuple[str, ...] = ()
    """Pods that take no new work."""
    revisions: tuple[PublishedRevision, ...] = ()
    """Every other one that has a share of the traffic, or still has replicas."""

    def all(self) -> tuple[PublishedRevision, ...]:
        """The one that new work goes to first."""
        return (self, *self.revisions)


@dataclass(frozen=True)
class Judgement:
    """One condition as it is now."""

    status: str  # True | False | Unknown
    reason: str
    message: str = ""


GOOD = Judgement("True", "Done")
PENDING = Judgement("Unknown", "Pending")


def published(
    route: Route,
    revisions: Iterable[Revision],
    leaving: Iterable[str],
    retry_at: Mapping[str, float],
    eta: Callable[[str], Mapping[str, float]],
    slots: Mapping[str, int] = MappingProxyType({}),
) -> Published:
    """What activators are told of a route.

    Args:
        route: Of the control loop.
        revisions: Those that have a share of the traffic, or replicas; among them the one that new work goes to.
        leaving: Pods that take no new work.
        retry_at: Unix time at which a failing revision is started again, by name.
        eta: Expected seconds of each phase of a revision's next start.
        slots: Requests that one replica takes just now, by revision; those of others are as many as their engines take.
    """
    told = {
        each.name: _capped(_revision(route, each, retry_at.get(each.name, 0.0), eta(each.name)), slots)
        for each in revisions
    }
    own = told.pop(route.revision)
    return Published(
        **dict(own),
        slo_class=route.slo_class,
        deadline_seconds=route.deadline_seconds,
        hold_seconds=route.hold_seconds,
        max_held=route.queue_limit,
        leaving=tuple(sorted(leaving)),
        revisions=tuple(told[name] for name in sorted(told)),
    )


def _capped(revision: PublishedRevision, slots: Mapping[str, int]) -> PublishedRevision:
    return revision.model_copy(update={"slots": slots.get(revision.revision, revision.slots)})


def _revision(route: Route, revision: Revision, retry_at: float, eta: Mapping[str, float]) -> PublishedRevision:
    seen, template = route.of(revision.name), revision.template
    known = {route.revision, *(facts.revision for facts in route.revisions)}
    failure = seen.failure if revision.name in known else ""
    return PublishedRevision(
        revision=revision.name,
        task=template.task,
        model=route.model,
        source=_source(template),
        context=template.context,
        slots=template.slots,
        adapters=tuple(name for name, _ in template.adapters),
        autoscaler=template.autoscaler,
        eta={phase: round(seconds, 1) for phase, seconds in eta.items()},
        failure=failure,
        retry_at=retry_at if failure else 0.0,
    )


def read_published(function: Object) -> Published | None:
    """Of a Function object; None: it has none yet, or one that cannot be read."""
    try:
        return Published.model_validate(function.get("status", {}).get("route"))
    except ValidationError:
        return None


def read_refused(function: Object, now: float) -> Published | None:
    """What is told of a Function object that was never taken: nothing but why. None: it may be yet.

    Args:
        function: Without a route in its status.
        now: Unix time.
    """
    verdict = condition(function, "Ready")
    if verdict.get("status") != "False":
        return None
    return Published(
        revision="",
        task=str(function["spec"].get("task", "generate")),
        model=function["metadata"]["name"],
        source="",
        context=UNKNOWN_CONTEXT,
        slots=1,
        failure=verdict.get("message") or "it was refused",
        retry_at=now + REFUSED_SECONDS,
    )


def _source(template: Template) -> str:
    reference = parse_reference(template.model)
    if template.kind == "simulated" or not isinstance(reference, RegistryReference):
        return ""
    return str(replace(reference, tag=None, digest=template.digest))


def ready(parts: Mapping[str, Judgement], failure: str) -> Judgement:
    """Ready is false for the first part that is, unknown for the first that is not yet true."""
    for wanted in ("False", "Unknown"):
        for name in CONDITIONS:
            if parts[name].status == wanted:
                return parts[name]
    if failure:
        return Judgement("False", "StartFails", failure)
    return Judgement("True", "Ready")


def tuned(recommended: str) -> Judgement:
    """`recommended`: what should be set otherwise; empty: nothing."""
    return Judgement("False", "Recommended", recommended) if recommended else Judgement("True", "AsRecommended")


def conditions(
    before: Iterable[Mapping[str, Any]], judged: Mapping[str, Judgement], generation: int, now: float
) -> list[dict[str, Any]]:
    """The whole list; a transition's time moves only when the status does."""
    known = {each.get("type"): each for each in before}
    return [_condition(known.get(name, {}), name, judgement, generation, now) for name, judgement in judged.items()]


def refusals(before: Iterable[Mapping[str, Any]], after: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Conditions that have become false, or are so for another reason or another generation; Ready repeats them."""
    known = {each.get("type"): _words(each) for each in before}
    return [
        each
        for each in after
        if each["type"] in CONDITIONS and each["status"] == "False" and known.get(each["type"]) != _words(each)
    ]


def _words(found: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(found.get(name) for name in ("status", "reason", "message", "observedGeneration"))


def _condition(
    known: Mapping[str, Any], name: str, judgement: Judgement, generation: int, now: float
) -> dict[str, Any]:
    same = known.get("status") == judgement.status
    moved = known.get("lastTransitionTime") if same else None
    return {
        "type": name,
        "status": judgement.status,
        "reason": judgement.reason,
        "message": judgement.message[:MESSAGE_LIMIT],
        "observedGeneration": generation,
        "lastTransitionTime": moved or timestamp(now),
    }


def timestamp(now: float) -> str:
    """RFC 3339 in whole seconds, as Kubernetes writes it."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
