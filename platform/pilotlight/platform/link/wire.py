"""What goes over the link: values, and the only JSON that is taken for them.

Other types and sizes beyond the bounds are refused, with the place in the document, and so are unknown fields, unless
the message is of a newer version: during a rolling update either end may be ahead of the other by one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, PlainSerializer, PlainValidator, TypeAdapter, ValidationError

from pilotlight.activator.values import Demand, FunctionId
from pilotlight.platform.link.sharing import even_part

VERSION = 1
"""Of the messages that this process sends. A new field raises it and has a default, which is what older processes mean;
older ones leave it out of what they read. What no process may leave out is another path."""
REPORT_PATH = "/link/v1/report"
REPORT_BYTES = 32 * 2**20
"""Largest report: 100,000 functions take about 20 MiB."""
ANSWER_BYTES = 8 * 2**20
FUNCTIONS = 100_000
"""Most functions in one message."""
REPLICAS = 10_000
"""Most replicas and revisions of one function, and most news of replicas in one report."""
REASON = 500
"""Characters of a reason that are kept."""

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)


T = TypeVar("T")


class WireError(ValueError):
    """A message that is not one of ours; says where and what was expected."""


def _function(text: Any) -> FunctionId:
    if isinstance(text, FunctionId):
        return text
    namespace, _, name = text.partition("/") if isinstance(text, str) else ("", "", "")
    if not (_NAME.fullmatch(namespace) and _NAME.fullmatch(name)):
        raise ValueError("expected NAMESPACE/NAME, both DNS labels")
    return FunctionId(namespace, name)


def _sane(demand: Demand) -> Demand:
    parts = [*demand.per_replica, *((part.revision, min(part.queued, part.in_flight)) for part in demand.per_revision)]
    counts = (demand.queued, demand.in_flight, demand.arrived_total, *(count for _, count in parts))
    moments = (demand.last_active, *(part.last_active for part in demand.per_revision))
    if min(counts) < 0 or min(moments) < 0:
        raise ValueError("expected counts and times of at least 0")
    if len(parts) > REPLICAS or any(len(name) > 253 for name, _ in parts):
        raise ValueError(f"expected at most {REPLICAS} replicas and revisions, with names of at most 253 characters")
    return demand


Function = Annotated[FunctionId, PlainValidator(_function), PlainSerializer(str)]
Name = Annotated[str, Field(min_length=1, max_length=253)]
Work = Annotated[Demand, AfterValidator(_sane)]
Count = Annotated[int, Field(ge=0)]
Version = Annotated[int, Field(ge=1)]
Moment = Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class Lost:
    """A replica that could not be reached or died under a request."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    function: Function
    replica: Name
    reason: Annotated[str, Field(max_length=REASON)]


@dataclass(frozen=True)
class Report:
    """One activator's work in hand: all of it, or what has changed since its last report that was answered."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    activator: Name  # the pod's name
    started_at: Moment  # Unix time; counts of one activator begin again with it
    sequence: Count  # rises with every report of one start
    sent_at: Moment  # Unix time
    full: bool  # these are all functions it knows; False: those that changed, it may be none
    leaving: bool = False  # it takes no new requests, and needs no part of what may wait
    demands: Annotated[Mapping[Function, Work], Field(max_length=FUNCTIONS)] = field(default_factory=dict)
    gone: Annotated[tuple[Function, ...], Field(max_length=FUNCTIONS)] = ()  # known no longer
    woken: Annotated[tuple[Function, ...], Field(max_length=FUNCTIONS)] = ()
    lost: Annotated[tuple[Lost, ...], Field(max_length=REPLICAS)] = ()
    causes: Annotated[Mapping[Function, Name], Field(max_length=FUNCTIONS)] = field(default_factory=dict)
    """By function with waiting requests: the key of the oldest, which is the ledger's cause of a start."""
    version: Version = VERSION


@dataclass(frozen=True)
class Shares:
    """How much of each function's queue bound is one activator's."""

    activators: int = 1
    by_function: Mapping[FunctionId, int] = field(default_factory=lambda: MappingProxyType({}))

    def bound(self, function: FunctionId, limit: int) -> int:
        """Requests of `function` that may wait here, of `limit` in the cluster: an even part where none is named."""
        return self.by_function.get(function, even_part(limit, self.activators))


@dataclass(frozen=True)
class Answer:
    """The leader's word on a report."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    leader: Name
    resync: bool  # the next report must be full: this one had nothing to build on
    activators: Annotated[int, Field(ge=1)]  # that report
    shares: Annotated[Mapping[Function, Count], Field(max_length=FUNCTIONS)] = field(default_factory=dict)
    """Of functions with waiting requests anywhere; any other's bound is split evenly."""
    version: Version = VERSION


@dataclass(frozen=True)
class _Head:
    """What tells how the rest of a message is to be read; a message that tells no version is of the first."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore", strict=True)
    version: Version = 1


_HEAD = TypeAdapter(_Head)
_REPORT = TypeAdapter(Report)
_ANSWER = TypeAdapter(Answer)


def encode_report(report: Report) -> bytes:
    return _REPORT.dump_json(report)


def encode_answer(answer: Answer) -> bytes:
    return _ANSWER.dump_json(answer)


def decode_report(data: bytes) -> Report:
    """Raises WireError."""
    return _decode(_REPORT, data, REPORT_BYTES)


def decode_answer(data: bytes) -> Answer:
    """Raises WireError."""
    return _decode(_ANSWER, data, ANSWER_BYTES)


def _decode(adapter: TypeAdapter[T], data: bytes, limit: int) -> T:
    if len(data) > limit:
        raise WireError(f"{len(data)} bytes, expected at most {limit}")
    try:
        return _validated(adapter, data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part)[:100] for part in first["loc"]) or "document"
        raise WireError(f"{where}: {first['msg']}") from None


def _validated(adapter: TypeAdapter[T], data: bytes) -> T:
    """Strictly first: most messages are of our own version, and large ones should not be parsed twice."""
    try:
        return adapter.validate_json(data)
    except ValidationError:
        if _HEAD.validate_json(data).version <= VERSION:
            raise
    return adapter.validate_json(data, extra="ignore")
