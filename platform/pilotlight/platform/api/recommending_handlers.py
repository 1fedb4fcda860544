"""Recommendations for a model in the registry."""

from __future__ import annotations

import asyncio

from pilotlight.activator.values import Caller
from pilotlight.platform.api.operations import Call, parse
from pilotlight.platform.api.recommending_shapes import RecommendedOut, RecommendIn
from pilotlight.platform.api.recommending_views import recommended_out, slo, workload
from pilotlight.platform.api.services import Services
from pilotlight.platform.api.shapes import Items, NoQuery
from pilotlight.platform.control.errors import RefusedError
from pilotlight.platform.manifest.references import parse_reference
from pilotlight.platform.manifest.units import UnitError
from pilotlight.recommender import Constraints, RecommenderError, builtin, compare, read_facts


class RecommendingHandlers:
    """One method per operation."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def recommend(self, call: Call[NoQuery]) -> Items[RecommendedOut]:
        return await asyncio.to_thread(self._recommend, parse(RecommendIn, call.body), call.caller)

    def _recommend(self, wanted: RecommendIn, caller: Caller) -> Items[RecommendedOut]:
        """Raises RefusedError, and what `Shelf.find` raises."""
        shelf = self._services.shelf
        try:
            found = shelf.find(parse_reference(wanted.model), caller)
            facts = read_facts(shelf.config(found), found.tensors())
            catalogue = builtin()
            there = [catalogue.find(name) for name in wanted.accelerators] or catalogue.entries
            fixed = Constraints(
                tensor_parallel=wanted.tensor_parallel,
                pipeline_parallel=wanted.pipeline_parallel,
                kv_dtype=wanted.kv_dtype,
                context=wanted.context,
                task=facts.task,
            )
            rows = compare(facts, there, slo(wanted), workload(wanted), fixed)
        except (RecommenderError, UnitError) as error:
            raise RefusedError(str(error)) from error
        return Items[RecommendedOut](items=tuple(map(recommended_out, rows)))
