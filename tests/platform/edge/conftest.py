"""What the API server shows of one function, and one that a test can take away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.platform.edge.apiserver import ApiServer

from pilotlight.activator.values import FunctionId
from pilotlight.platform.edge.views import Endpoint, View
from pilotlight.platform.kubernetes.status import Published, PublishedRevision

CHAT = FunctionId("team", "chat")
MakeView = Callable[..., View]


def revision(number: int, **changes: Any) -> PublishedRevision:
    base: dict[str, Any] = {"task": "generate", "model": "chat", "source": "", "context": 100 * number, "slots": number}
    return PublishedRevision(**{"revision": f"chat-{number:05}", **base, **changes})


def make_view(
    own: PublishedRevision,
    *others: PublishedRevision,
    pods: dict[str, list[Endpoint]] | None = None,
    leaving: tuple[str, ...] = (),
    hosts: Any = (),
) -> View:
    """`pods`: by revision."""
    told = Published(**dict(own), revisions=others, leaving=leaving)
    return View(CHAT, told, pods or {}, {}, 10, hosts)


@pytest.fixture(name="make_view")
def _make_view() -> MakeView:
    return make_view


@pytest.fixture
def api_server() -> Iterator[ApiServer]:
    server = ApiServer()
    yield server
    server.away()
