"""Who answers what on the activator's ports."""

from __future__ import annotations

import httpx
import pytest
from starlette.responses import PlainTextResponse

from pilotlight.platform.dispatch import App
from pilotlight.platform.edge.surface import outside, redirecting

ACTIVATOR, LEADER = PlainTextResponse("activator"), PlainTextResponse("leader")


async def get(app: App, url: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
        return await client.get(url, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    ("url", "who"),
    [
        ("http://any/v1/models", "activator"),
        ("http://any/v1", "activator"),
        ("http://any/f/team/chat/v1/models", "activator"),
        ("http://any/v10/models", "leader"),
        ("http://any/api/v1/functions", "leader"),
        ("http://any/", "leader"),
        ("http://chat.team/", "activator"),
        ("http://chat.team/api/v1/functions", "activator"),
    ],
)
async def test_functions_are_the_activators_and_all_else_the_leaders(url: str, who: str) -> None:
    app = outside(ACTIVATOR, LEADER, lambda host: host == "chat.team", lambda: False)

    assert (await get(app, url)).text == who


async def test_answers_of_the_leader_close_connections_of_an_activator_that_leaves() -> None:
    leaving = False
    app = outside(ACTIVATOR, LEADER, lambda _: False, lambda: leaving)
    assert "connection" not in (await get(app, "http://any/api/v1/functions")).headers

    leaving = True

    assert (await get(app, "http://any/api/v1/functions")).headers["connection"] == "close"


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("http://chat.example/v1/models?a=%2F", "https://chat.example/v1/models?a=%2F"),
        ("http://CHAT.example:8080/%2e", "https://chat.example/%2e"),
        ("http://chat.team/v1/models", None),
    ],
)
async def test_hosts_that_are_redirected_have_https_alone(url: str, location: str | None) -> None:
    answer = await get(redirecting(ACTIVATOR, lambda: frozenset({"chat.example"})), url)

    assert answer.headers.get("location") == location
    assert answer.status_code == (308 if location else 200)


async def test_who_came_by_https_to_a_load_balancer_is_not_sent_round_in_circles() -> None:
    app = redirecting(ACTIVATOR, lambda: frozenset({"chat.example"}))

    assert (await get(app, "http://chat.example/", x_forwarded_proto="https")).text == "activator"
