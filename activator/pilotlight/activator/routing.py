"""Paths to what they ask for: `/v1/...`, and the same under `/f/{namespace}/{name}` or on a function's own host."""

from __future__ import annotations

from dataclasses import dataclass

from pilotlight.activator.errors import RefusedError, not_found, not_found_on_host, wrong_method
from pilotlight.activator.schema import Endpoint
from pilotlight.activator.traffic import ANYWHERE, Address
from pilotlight.activator.values import FunctionId

_ENDPOINTS = {endpoint.value: endpoint for endpoint in Endpoint}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request goes; `endpoint` None: the list of models, or the one named by `model`."""

    function: FunctionId | None
    endpoint: Endpoint | None
    model: str = ""
    address: Address = ANYWHERE


def place(method: str, path: str) -> Place:
    """Raises `RefusedError`: 404 for what is not served, 405 with the allowed method."""
    function, rest = _function(path)
    return _place(method, rest, function, ANYWHERE, not_found(path))


def place_on_host(method: str, path: str, function: FunctionId, address: Address) -> Place:
    """The same on a host that stands for a function: only `/v1/...` is there."""
    rest = path[4:] if path.startswith("/v1/") else ""
    return _place(method, rest, function, address, not_found_on_host(path, address.host, function))


def _place(method: str, rest: str, function: FunctionId | None, address: Address, missing: RefusedError) -> Place:
    if rest == "models" or rest.startswith("models/"):
        if method not in ("GET", "HEAD"):
            raise wrong_method(method, "GET")
        return Place(function, None, rest[len("models/") :], address)
    endpoint = _ENDPOINTS.get(rest)
    if endpoint is None:
        raise missing
    if method != "POST":
        raise wrong_method(method, "POST")
    return Place(function, endpoint, address=address)


def _function(path: str) -> tuple[FunctionId | None, str]:
    if path.startswith("/v1/"):
        return None, path[4:]
    parts = path.split("/", 5)  # "", "f", namespace, name, "v1", rest
    if len(parts) != 6 or parts[1] != "f" or parts[4] != "v1" or not parts[2] or not parts[3]:
        raise not_found(path)
    return FunctionId(parts[2], parts[3]), parts[5]
