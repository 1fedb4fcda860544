"""What the API server shows of one function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pilotlight.activator.values import FunctionId
from pilotlight.platform.edge.views import Endpoint, View
from pilotlight.platform.kubernetes.status import Published, PublishedRevision

CHAT = FunctionId("team", "chat")
MakeView = Callable[..., View]


def revision(number: int, **changes: Any) -> PublishedRevision:
    base: dict[str, Any] = {"task": "generate", "model": "chat", "source": "", "context": 100 * number, "slots": number}
    return PublishedRevision(**{"revision": f"chat-{number:05}", **base, **changes})


@pytest.fixture
def make_view() -> MakeView:
    """make_view(own, *others, pods={revision: [Endpoint, ...]}, leaving=(), hosts=())"""

    def make(
        own: PublishedRevision,
        *others: PublishedRevision,
        pods: dict[str, list[Endpoint]] | None = None,
        leaving: tuple[str, ...] = (),
        hosts: Any = (),
    ) -> View:
        told = Published(**dict(own), revisions=others, leaving=leaving)
        return View(CHAT, told, pods or {}, {}, 10, hosts)

    return make
