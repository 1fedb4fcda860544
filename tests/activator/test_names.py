"""Names: what they resolve to, and what they never give away."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.activator.errors import RefusedError
from pilotlight.activator.names import Directory
from pilotlight.activator.traffic import HostRule
from pilotlight.activator.values import Caller, FunctionId, Route


def _route(namespace: str, name: str, *adapters: str) -> Route:
    function = FunctionId(namespace, name)
    return Route(function, "r", "generate", f"served-{name}", context=1, tokenizer=None, adapters=adapters)


ROUTES = {
    route.function: route
    for route in (
        _route("team-a", "chat", "legal"),
        _route("team-a", "translate"),
        _route("team-b", "chat"),
        _route("team-b", "secret-project"),
    )
}
DIRECTORY = Directory(ROUTES)
ALICE = Caller("a", frozenset({"team-a"}))
ADMIN = Caller("root", None, admin=True)
NARROW = Caller("n", frozenset({"team-a"}), frozenset({FunctionId("team-a", "translate")}))


@pytest.mark.parametrize(
    ("caller", "model", "function", "served"),
    [
        (ALICE, "chat", "team-a/chat", "served-chat"),
        (ALICE, "team-a/chat", "team-a/chat", "served-chat"),
        (ALICE, "chat:legal", "team-a/chat", "legal"),
        (ALICE, "team-a/chat:legal", "team-a/chat", "legal"),
        (ADMIN, "team-b/chat", "team-b/chat", "served-chat"),
        (ADMIN, "secret-project", "team-b/secret-project", "served-secret-project"),
    ],
)
def test_resolves(caller: Caller, model: str, function: str, served: str) -> None:
    target = DIRECTORY.resolve(model, caller)
    assert (str(target.route.function), target.model) == (function, served)


@pytest.mark.parametrize(
    ("caller", "model", "hint"),
    [
        pytest.param(ALICE, "chatt", "Did you mean `chat`?", id="misspelt"),
        pytest.param(ALICE, "team-a/chta", "Did you mean `team-a/chat`?", id="misspelt full name"),
        pytest.param(ALICE, "chat:legall", "Did you mean `chat:legal`?", id="misspelt adapter"),
        pytest.param(ALICE, "translate:x", "Did you mean `translate`?", id="no such adapter"),
        pytest.param(ALICE, "secret-project", "`GET /v1/models` lists", id="another's function"),
        pytest.param(ALICE, "team-b/chat", "Did you mean `team-a/chat`?", id="another's namespace"),
        pytest.param(NARROW, "chat", "`GET /v1/models` lists", id="a key for one function"),
        pytest.param(ALICE, "", "`GET /v1/models` lists", id="empty"),
        pytest.param(ALICE, "x" * 100_000, "`GET /v1/models` lists", id="very long"),
    ],
)
def test_an_unknown_model_is_404_with_the_nearest_name_this_key_may_see(caller: Caller, model: str, hint: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        DIRECTORY.resolve(model, caller)
    assert (refusal.value.status, refusal.value.code) == (404, "model_not_found")
    assert hint in refusal.value.message
    assert "secret" not in refusal.value.message.replace(model, "")
    assert len(refusal.value.message) < 500


def test_a_bare_name_in_several_namespaces_asks_which() -> None:
    with pytest.raises(RefusedError, match="`team-a/chat`, `team-b/chat`") as refusal:
        DIRECTORY.resolve("chat", ADMIN)
    assert refusal.value.status == 400


@pytest.mark.parametrize("model", [None, "chat", "team-a/chat", "served-chat"])
def test_under_the_function_path_the_model_may_be_left_out(model: str | None) -> None:
    target = DIRECTORY.resolve_within(FunctionId("team-a", "chat"), model, ALICE)
    assert target.model == "served-chat"


@pytest.mark.parametrize("model", ["legal", "chat:legal"])
def test_under_the_function_path_an_adapter_is_named_either_way(model: str) -> None:
    assert DIRECTORY.resolve_within(FunctionId("team-a", "chat"), model, ALICE).model == "legal"


@pytest.mark.parametrize(
    ("function", "model"),
    [(FunctionId("team-a", "chat"), "translate"), (FunctionId("team-b", "chat"), None), (FunctionId("x", "y"), None)],
)
def test_under_the_function_path_nothing_else_is_reached(function: FunctionId, model: str | None) -> None:
    with pytest.raises(RefusedError) as refusal:
        DIRECTORY.resolve_within(function, model, ALICE)
    assert refusal.value.status == 404


def test_the_list_has_full_names_only_where_bare_ones_are_ambiguous() -> None:
    assert [name for name, _ in DIRECTORY.listed(ALICE)] == ["chat", "chat:legal", "translate"]
    assert [name for name, _ in DIRECTORY.listed(ADMIN)] == [
        "team-a/chat",
        "team-a/chat:legal",
        "translate",
        "team-b/chat",
        "secret-project",
    ]


def test_every_listed_name_resolves_to_its_function() -> None:
    for caller in (ALICE, ADMIN, NARROW):
        for name, route in DIRECTORY.listed(caller):
            assert DIRECTORY.resolve(name, caller).route is route


@pytest.mark.parametrize("hosts", [(), (HostRule(("chat.example",)),)])
def test_what_changes_is_found_by_its_new_names_alone(hosts: tuple[HostRule, ...]) -> None:
    directory = Directory(ROUTES)
    fresh = {name: replace(route, model="newer", hosts=hosts) for name, route in ROUTES.items()}
    directory.change(fresh)
    assert directory.resolve("team-a/chat", ALICE).model == "newer"

    directory.change({FunctionId("team-b", "chat"): None})

    assert directory.resolve("chat", ADMIN).route.function == FunctionId("team-a", "chat")


changes = st.dictionaries(
    st.sampled_from([FunctionId("a", "x"), FunctionId("a", "y"), FunctionId("b", "x")]),
    st.none() | st.lists(st.sampled_from(["x.example", "X.example", "y.example"]), max_size=2),
)


@given(st.lists(changes, max_size=6))
def test_a_directory_that_was_changed_is_one_of_the_same_routes(
    steps: list[dict[FunctionId, list[str] | None]],
) -> None:
    changed = Directory({})
    routes: dict[FunctionId, Route] = {}
    for step in steps:
        told = {
            name: None if hosts is None else replace(_route(*name), hosts=(HostRule(tuple(hosts)),))
            for name, hosts in step.items()
        }
        changed.change(told)
        routes = {name: found for name, found in {**routes, **told}.items() if found is not None}
        fresh = Directory(routes)

        assert changed.routes == fresh.routes
        assert [name for name, _ in changed.listed(ADMIN)] == [name for name, _ in fresh.listed(ADMIN)]
        for host in ("x.example", "y.example"):
            assert changed.at_host(host) == fresh.at_host(host)
