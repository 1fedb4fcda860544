"""`GET /v1/models`: what this key may call."""

from __future__ import annotations

from pilotlight.activator.errors import unknown_model
from pilotlight.activator.names import Directory
from pilotlight.activator.values import Caller, FunctionId, Route


def listing(directory: Directory, caller: Caller, function: FunctionId | None) -> dict[str, object]:
    shown = directory.listed(caller)
    if function is not None:
        directory.resolve_within(function, None, caller)
        shown = [(name, route) for name, route in shown if route.function == function]
    return {"object": "list", "data": [_card(name, route) for name, route in shown]}


def single(
    directory: Directory, caller: Caller, model: str, function: FunctionId | None, host: str = ""
) -> dict[str, object]:
    if function is None:
        return _card(model, directory.resolve(model, caller).route)
    if not model:
        raise unknown_model(model, str(function))
    return _card(model, directory.resolve_within(function, model, caller, host).route)


def _card(name: str, route: Route) -> dict[str, object]:
    return {
        "id": name,
        "object": "model",
        "created": 0,  # functions have revisions, not one date of making
        "owned_by": route.function.namespace,
        "max_model_len": route.context,
        "task": route.task,
    }
