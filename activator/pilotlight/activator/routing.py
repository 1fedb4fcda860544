"""Paths to what they ask for: `/v1/...`, and the same under `/f/{namespace}/{name}`."""

from __future__ import annotations

from dataclasses import dataclass

from pilotlight.activator.errors import not_found, wrong_method
from pilotlight.activator.schema import Endpoint
from pilotlight.activator.values import FunctionId

_ENDPOINTS = {endpoint.value: endpoint for endpoint in Endpoint}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request goes; `endpoint` None: the list of models, or the one named by `model`."""

    function: FunctionId | None
    endpoint: Endpoint | None
    model: str = ""


def place(method: str, path: str) -> Place:
    """Raises `RefusedError`: 404 for what is not served, 405 with the allowed method."""
    function, rest = _function(path)
    if rest == "models" or rest.startswith("models/"):
        if method not in ("GET", "HEAD"):
            raise wrong_method(method, "GET")
        return Place(function, None, rest[len("models/") :])
    endpoint = _ENDPOINTS.get(rest)
    if endpoint is None:
        raise not_found(path)
    if method != "POST":
        raise wrong_method(method, "POST")
    return Place(function, endpoint)


def _function(path: str) -> tuple[FunctionId | None, str]:
    if path.startswith("/v1/"):
        return None, path[4:]
    parts = path.split("/", 5)  # "", "f", namespace, name, "v1", rest
    if len(parts) != 6 or parts[1] != "f" or parts[4] != "v1" or not parts[2] or not parts[3]:
        raise not_found(path)
    return FunctionId(parts[2], parts[3]), parts[5]
