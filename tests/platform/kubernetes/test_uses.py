"""Which right an address of the API asks for."""

from __future__ import annotations

import pytest

from pilotlight.platform.kubernetes.kinds import DEPLOYMENT, FUNCTION, NAMESPACE, NODE, POD, SECRET
from pilotlight.platform.kubernetes.uses import Use, uses_of

WATCH = {"watch": "true"}


@pytest.mark.parametrize(
    ("method", "path", "query", "use"),
    [
        ("GET", FUNCTION.path(), {}, Use("list", "pilotlight.dev", "functions")),
        ("GET", FUNCTION.path("team-a"), WATCH, Use("watch", "pilotlight.dev", "functions")),
        ("GET", POD.path("team-a", "chat"), {}, Use("get", "", "pods")),
        ("GET", POD.path("team-a", "chat", "log"), {"follow": "true"}, Use("get", "", "pods/log")),
        ("GET", NODE.path(), {}, Use("list", "", "nodes")),
        ("GET", NAMESPACE.path(name="team-a"), {}, Use("get", "", "namespaces")),
        ("GET", NAMESPACE.path(), {}, Use("list", "", "namespaces")),
        ("POST", SECRET.path("team-a"), {}, Use("create", "", "secrets")),
        ("PATCH", DEPLOYMENT.path("team-a", "chat", "scale"), {}, Use("patch", "apps", "deployments/scale")),
        ("DELETE", POD.path("team-a", "chat"), {}, Use("delete", "", "pods")),
        ("GET", "/version", {}, None),
        ("GET", "/apis/apps/v1", {}, None),
        ("GET", "/api/v1", {}, None),
    ],
)
def test_an_address_names_its_right(method: str, path: str, query: dict[str, str], use: Use | None) -> None:
    assert uses_of(method, path, query, 200) == ((use,) if use is not None else ())


def test_a_patch_that_makes_the_object_uses_the_right_to_make_it_too() -> None:
    patch, create = Use("patch", "pilotlight.dev", "functions"), Use("create", "pilotlight.dev", "functions")
    assert uses_of("PATCH", FUNCTION.path("team-a", "chat"), {"fieldManager": "x"}, 201) == (patch, create)
