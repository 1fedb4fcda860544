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
