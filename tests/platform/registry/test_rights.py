from __future__ import annotations

from collections.abc import Callable

import pytest

from pilotlight.platform.registry.rights import Caller, may_push, may_read


@pytest.mark.parametrize(
    ("namespaces", "admin", "repository", "reads", "pushes"),
    [
        pytest.param(("team-a",), False, "chat", True, False, id="shared, key of a namespace"),
        pytest.param((), False, "chat", True, False, id="shared, key of nothing"),
        pytest.param((), True, "chat", True, True, id="shared, admin"),
        pytest.param(("team-a",), False, "team-a/chat", True, True, id="own namespace"),
        pytest.param(("team-b",), False, "team-a/chat", False, False, id="foreign namespace"),
        pytest.param((), True, "team-a/chat", True, True, id="admin"),
    ],
)
def test_rights_are_per_namespace(
    caller: Callable[..., Caller], namespaces: tuple[str, ...], admin: bool, repository: str, reads: bool, pushes: bool
) -> None:
    key = caller(*namespaces, admin=admin)
    assert may_read(key, repository) is reads
    assert may_push(key, repository) is pushes


@pytest.mark.parametrize(
    ("namespace", "functions"),
    [
        pytest.param(None, frozenset({("team-a", "chat")}), id="of single functions"),
        pytest.param("team-a", frozenset({("team-a", "chat")}), id="of single functions in a namespace"),
        pytest.param(None, None, id="of nothing"),
    ],
)
def test_a_key_that_only_calls_owns_no_namespace(
    caller: Callable[..., Caller], namespace: str | None, functions: frozenset[tuple[str, str]] | None
) -> None:
    key = caller(namespace, functions=functions)
    assert may_read(key, "chat")
    assert not may_read(key, "team-a/chat")
    assert not may_push(key, "team-a/chat")
    assert not may_push(key, "chat")
