"""Keys, usage, models and the audit trail."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from pilotlight.activator.values import Caller
from pilotlight.platform.api.errors import HttpError
from pilotlight.platform.api.operations import Call, parse
from pilotlight.platform.api.services import Services, namespaces, parse_function, sees
from pilotlight.platform.api.shapes import (
    AuditOut,
    Items,
    KeyIn,
    KeyMadeOut,
    KeyOut,
    LimitQuery,
    ModelOut,
    NoQuery,
    UsageOut,
    UsageQuery,
    UsageRowOut,
    UsageRowsQuery,
)
from pilotlight.platform.api.views import audit_out, key_out, key_values, usage_out, usage_row_out
from pilotlight.platform.control.errors import MissingError, UnavailableError
from pilotlight.platform.database.usage import UsageFilter
from pilotlight.platform.registry.registry import ModelEntry
from pilotlight.platform.registry.rights import may_read
from pilotlight.runtime.stores import StoreError


class RecordHandlers:
    """One method per operation."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def keys(self, call: Call[NoQuery]) -> Items[KeyOut]:  # noqa: ARG002 - admins see all
        found = await asyncio.to_thread(self._services.keyring.list)
        return Items[KeyOut](items=tuple(map(key_out, found)))

    async def create_key(self, call: Call[NoQuery]) -> KeyMadeOut:
        wanted = parse(KeyIn, call.body)
        if not wanted.admin and wanted.namespaces is None and wanted.functions is None:
            message = "a key needs a scope: admin, namespaces or functions"
            raise HttpError(400, "invalid_body", message)
        functions = None if wanted.functions is None else [parse_function(name) for name in wanted.functions]
        create, scope = self._services.keyring.create, (wanted.namespaces, functions, wanted.admin)
        record, secret = await asyncio.to_thread(create, wanted.name, *scope, by=call.caller.key)
        return KeyMadeOut(**key_values(record), secret=secret)

    async def revoke_key(self, call: Call[NoQuery]) -> None:
        key = call.request.path_params["key"]
        if key == call.caller.key:
            raise HttpError(409, "own_key", "a key cannot revoke itself: nobody might be left to make another")
        if not await asyncio.to_thread(self._services.keyring.revoke, key, call.caller.key):
            raise MissingError(f"there is no key {key[:60]} in force")

    async def usage(self, call: Call[UsageQuery]) -> Items[UsageOut]:
        query = call.query
        wanted = self._filter(call, query)
        await asyncio.to_thread(self._services.settle)
        rows = await asyncio.to_thread(self._services.usage.grouped, query.by, wanted)
        seconds = {}
        if query.by != "day":
            seconds = await asyncio.to_thread(self._services.replicas.seconds, query.by, wanted)
        return Items[UsageOut](items=usage_out(rows, query.by, seconds))

    async def usage_rows(self, call: Call[UsageRowsQuery]) -> Items[UsageRowOut]:
        query = call.query
        wanted = self._filter(call, query)
        await asyncio.to_thread(self._services.settle)
        rows = await asyncio.to_thread(self._services.usage.rows, wanted, query.limit)
        return Items[UsageRowOut](items=tuple(map(usage_row_out, rows)))

    async def audit(self, call: Call[LimitQuery]) -> Items[AuditOut]:
        found = await asyncio.to_thread(self._services.records.audit, call.query.limit)
        return Items[AuditOut](items=tuple(map(audit_out, found)))

    async def models(self, call: Call[NoQuery]) -> Items[ModelOut]:
        try:
            entries = await asyncio.to_thread(self._entries, call.caller)
        except StoreError as error:
            raise UnavailableError(f"the model store does not answer: {error}") from error
        seen = [entry for entry in entries if may_read(call.caller, entry.ref.repository)]
        return Items[ModelOut](
            items=tuple(ModelOut(reference=str(e.ref), digest=e.digest, modified=e.modified) for e in seen)
        )

    def _entries(self, caller: Caller) -> list[ModelEntry]:
        """Of the buckets of functions that the key sees: others' are not its to know."""
        seen = {(found.id, found.revision) for found in self._services.functions.all() if sees(caller, found.id)}
        revisions = self._services.functions.revisions()
        return self._services.shelf.entries(
            made.template.model for made in revisions if (made.function, made.name) in seen
        )

    def _filter(self, call: Call[Any], query: UsageQuery | UsageRowsQuery) -> UsageFilter:
        """What the key may see: an admin all, a namespace's key its namespaces, any other what it used itself."""
        target = parse_function(query.function) if query.function else None
        wanted = UsageFilter(namespaces(call.caller), target, query.key, query.since, query.until)
        manages = call.caller.admin or (call.caller.functions is None and call.caller.namespaces is not None)
        if manages:
            return wanted
        if query.key and query.key != call.caller.key:
            raise MissingError("this key sees only its own usage")
        return replace(wanted, key=call.caller.key)
