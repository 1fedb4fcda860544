"""Which rights a call to the API server asks for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

CREATED = 201
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class Use(NamedTuple):
    """One right, as a rule of a Role names it."""

    verb: str
    group: str
    resource: str
    """With its subresource: `deployments/scale`."""


def uses_of(method: str, path: str, query: Mapping[str, str], status: int) -> tuple[Use, ...]:
    """By a request and the status of its answer; none: the address is of no resource, as `/version`.

    A patch that makes the object, as server-side apply does, asks for the right to make it as well.
    """
    methods = ("PATCH", "POST") if method == "PATCH" and status == CREATED else (method,)
    return tuple(use for each in methods if (use := _use_of(each, path, query)) is not None)


def _use_of(method: str, path: str, query: Mapping[str, str]) -> Use | None:
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > 2:
        group, rest = "", parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, rest = parts[1], parts[3:]
    else:
        return None
    if rest[0] == "namespaces" and len(rest) > 2:
        rest = rest[2:]
    resource = "/".join((rest[0], *rest[2:3]))
    if method != "GET":
        return Use(_VERBS[method], group, resource)
    if len(rest) > 1:
        return Use("get", group, resource)
    return Use("watch" if query.get("watch") else "list", group, resource)
