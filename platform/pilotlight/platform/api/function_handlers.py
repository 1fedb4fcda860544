"""Functions, revisions, replicas, decisions and logs."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator

from starlette.responses import Response, StreamingResponse

from pilotlight.activator.values import FunctionId
from pilotlight.platform.api.errors import HttpError
from pilotlight.platform.api.operations import Call
from pilotlight.platform.api.services import Services, namespaces, parse_function, sees
from pilotlight.platform.api.shapes import (
    AppliedOut,
    DecisionOut,
    DescriptionOut,
    FunctionOut,
    Items,
    ListQuery,
    LogQuery,
    NoQuery,
    RecommendationOut,
    ReplicaOut,
    RevisionOut,
)
from pilotlight.platform.api.views import (
    decision_out,
    ended_out,
    function_out,
    live_out,
    recommendation_out,
    revision_out,
)
from pilotlight.platform.control.cluster import RevisionId
from pilotlight.platform.control.deploying import may_manage, refusal
from pilotlight.platform.control.errors import ForbiddenError, MissingError
from pilotlight.platform.manifest import Function as Manifest
from pilotlight.platform.manifest import ManifestError, load, parse
from pilotlight.platform.values import Function

FOLLOWERS = 64
"""Logs that are followed at once; each holds a connection."""
DESCRIBED_DECISIONS = 20
DESCRIBED_ENDED = 5


class FunctionHandlers:
    """One method per operation."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._followers = 0

    async def list(self, call: Call[NoQuery]) -> Items[FunctionOut]:
        functions = await asyncio.to_thread(self._services.functions.all)
        seen = [function for function in functions if sees(call.caller, function.id)]
        return Items[FunctionOut](items=tuple([await self._out(function) for function in seen]))

    async def get(self, call: Call[NoQuery]) -> FunctionOut:
        return await self._out(await self._visible(call))

    async def apply(self, call: Call[NoQuery]) -> Items[AppliedOut]:
        # In a thread: a megabyte of YAML takes seconds, and streams must go on.
        manifests = await asyncio.to_thread(_manifests, call)
        applied = await asyncio.to_thread(self._services.deployer.apply, manifests, call.caller)
        await self._services.caught_up()
        return Items[AppliedOut](
            items=tuple(
                AppliedOut.model_validate(
                    {
                        "namespace": item.function.id.namespace,
                        "name": item.function.id.name,
                        "revision": item.function.revision,
                        "change": item.change,
                        "reasons": item.reasons,
                    }
                )
                for item in applied
            )
        )

    async def delete(self, call: Call[NoQuery]) -> None:
        await asyncio.to_thread(self._services.deployer.delete, call.function, call.caller)
        await self._services.caught_up()

    async def describe(self, call: Call[NoQuery]) -> DescriptionOut:
        function = await self._visible(call)
        services = self._services
        revisions = await asyncio.to_thread(services.functions.revisions, function.id)
        decisions = await asyncio.to_thread(services.records.decisions, function.id, None, DESCRIBED_DECISIONS)
        recommended = await asyncio.to_thread(services.recommendations.all, function.id)
        known = services.loop.known
        return DescriptionOut(
            function=await self._out(function),
            manifest=dict(function.manifest),
            revision=next(revision_out(r) for r in revisions if r.name == function.revision),
            start_eta_seconds=services.loop.eta(function.id) if function.id in known.functions else {},
            cap=known.caps.get(RevisionId(function.id, function.revision)),
            recommendations=tuple(map(recommendation_out, recommended)),
            replicas=await self._replicas(function.id, DESCRIBED_ENDED),
            decisions=tuple(map(decision_out, decisions)),
        )

    async def revisions(self, call: Call[ListQuery]) -> Items[RevisionOut]:
        wanted = parse_function(call.query.function) if call.query.function else None
        found = await asyncio.to_thread(self._services.functions.revisions, wanted)
        seen = [revision for revision in found if sees(call.caller, revision.function)]
        return Items[RevisionOut](items=tuple(map(revision_out, seen[-call.query.limit :])))

    async def replicas(self, call: Call[ListQuery]) -> Items[ReplicaOut]:
        """Of one function the ended ones too; else those that live."""
        if call.query.function:
            function = parse_function(call.query.function)
            if not sees(call.caller, function):
                raise MissingError(f"there is no function {function}")
            return Items[ReplicaOut](items=await self._replicas(function, call.query.limit))
        demand = self._services.demand()
        live = [live for live in self._services.loop.known.live.values() if sees(call.caller, live.record.function)]
        shown = live[: call.query.limit]
        return Items[ReplicaOut](items=tuple(live_out(r, demand.get(r.record.function)) for r in shown))

    async def decisions(self, call: Call[ListQuery]) -> Items[DecisionOut]:
        wanted = parse_function(call.query.function) if call.query.function else None
        read = self._services.records.decisions
        found = await asyncio.to_thread(read, wanted, namespaces(call.caller), call.query.limit)
        seen = [record for record in found if sees(call.caller, record.function)]
        return Items[DecisionOut](items=tuple(map(decision_out, seen)))

    async def recommendations(self, call: Call[ListQuery]) -> Items[RecommendationOut]:
        wanted = parse_function(call.query.function) if call.query.function else None
        read = self._services.recommendations.all
        found = await asyncio.to_thread(read, wanted, namespaces(call.caller), call.query.limit)
        seen = [record for record in found if sees(call.caller, record.function)]
        return Items[RecommendationOut](items=tuple(map(recommendation_out, seen)))

    async def logs(self, call: Call[LogQuery]) -> Response:
        """Engines' logs can hold what callers sent, so they are for those who manage the function."""
        function = await self._visible(call)
        if not may_manage(call.caller, function.id):
            raise ForbiddenError(f"this key may call {function.id}, but not read its logs")
        replica = await self._log_of(function.id, call.query.replica)
        if call.query.follow and self._followers >= FOLLOWERS:
            raise HttpError(429, "too_many_followers", f"{FOLLOWERS} logs are followed already; end one first")
        lines = self._lines(replica, call.query) if replica else _nothing()
        return StreamingResponse(lines, media_type="text/plain; charset=utf-8")

    async def _lines(self, replica: str, query: LogQuery) -> AsyncIterator[bytes]:
        self._followers += query.follow
        try:
            async for data in self._services.log(replica, query.tail, query.follow):
                yield data
        finally:
            self._followers -= query.follow

    async def _log_of(self, function: FunctionId, wanted: str) -> str:
        recent = await asyncio.to_thread(self._services.replicas.recent, function, 100)
        names = [record.id for record in recent]
        if wanted and wanted not in names:
            raise MissingError(f"{function} has no replica {wanted}")
        return wanted or next(iter(names), "")

    async def _visible(self, call: Call[NoQuery] | Call[LogQuery]) -> Function:
        return await asyncio.to_thread(self._services.visible, call.caller, call.function)

    async def _out(self, function: Function) -> FunctionOut:
        services = self._services
        revision = services.loop.known.revisions.get((function.id, function.revision))
        if revision is None:  # applied this moment, the loop has not seen it
            found = await asyncio.to_thread(services.functions.revisions, function.id)
            revision = next(item for item in found if item.name == function.revision)
        live, memory = services.loop.known.of(function.id), services.loop.known.memory.get(function.id)
        return function_out(function, revision, live, services.demand().get(function.id), memory)

    async def _replicas(self, function: FunctionId, limit: int) -> tuple[ReplicaOut, ...]:
        demand = self._services.demand().get(function)
        live = tuple(live_out(replica, demand) for replica in self._services.loop.known.of(function))
        recent = await asyncio.to_thread(self._services.replicas.recent, function, limit)
        ended = tuple(ended_out(record) for record in recent if record.ended_at is not None)
        return (*live, *ended)[:limit] if limit > len(live) else live


def _manifests(call: Call[NoQuery]) -> tuple[Manifest, ...]:
    """YAML or JSON text, one or several documents; a JSON array of manifests too."""
    kind = call.request.headers.get("content-type", "application/yaml").partition(";")[0].strip().lower()
    try:
        text = call.body.decode("utf-8")
        if kind != "application/json":
            return load(text, "manifest")
        content = json.loads(text)
        documents = content if isinstance(content, list) else [content]
        return _each_once([parse(document, f"manifest {number}") for number, document in enumerate(documents, 1)])
    except ManifestError as error:
        raise refusal(error) from None
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise HttpError(400, "invalid_body", f"the body is neither YAML nor JSON in UTF-8: {error}") from None


def _each_once(manifests: list[Manifest]) -> tuple[Manifest, ...]:
    names = Counter(manifest.full_name for manifest in manifests)
    if twice := [name for name, count in names.items() if count > 1]:
        raise HttpError(422, "refused", f"function {twice[0]} is there twice; name each once")
    return tuple(manifests)


async def _nothing() -> AsyncIterator[bytes]:
    yield b""
