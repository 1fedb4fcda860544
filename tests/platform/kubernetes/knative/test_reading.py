"""Who has a share of a function's traffic, by all of its ingresses."""

from __future__ import annotations

from typing import Any

import pytest

from pilotlight.activator.traffic import HostRule, Split
from pilotlight.platform.kubernetes.kinds import Key, Object
from pilotlight.platform.kubernetes.knative.reading import IngressRules
from pilotlight.platform.kubernetes.knative.rules import own_splits

CHAT = Key("team", "chat")
CLASS = {"networking.knative.dev/ingress.class": "pilotlight.ingress.networking.knative.dev"}
HALF = (("chat-00001", 50), ("chat-00002", 50))


def rule(host: str, *splits: tuple[str, int]) -> dict[str, Any]:
    backends = [{"serviceName": revision, "percent": percent} for revision, percent in splits]
    return {"hosts": [host, f"{host}.svc"], "http": {"paths": [{"splits": backends}]}}


def ingress(*rules: dict[str, Any], version: str = "1", name: str = "chat", **metadata: Any) -> Object:
    labels = {"pilotlight.dev/function": "chat"}
    base = {"namespace": "team", "name": name, "labels": labels, "annotations": CLASS, "resourceVersion": version}
    return {"metadata": base | metadata, "spec": {"rules": list(rules)}}


def of(*ingresses: Object) -> IngressRules:
    return IngressRules(lambda: {Key("team", each["metadata"]["name"]): each for each in ingresses})


def test_percentages_and_tags_have_a_share() -> None:
    found = of(ingress(rule("chat.team", *HALF), rule("old-chat.team", ("chat-00003", 100))))

    assert found.shared() == {CHAT: {"chat-00001", "chat-00002", "chat-00003"}}


def test_nothing_percent_is_no_share() -> None:
    assert of(ingress(rule("chat.team", ("chat-00001", 0), ("chat-00002", 100)))).shared() == {CHAT: {"chat-00002"}}


@pytest.mark.parametrize("metadata", [{"annotations": {}}, {"deletionTimestamp": "now"}, {"labels": {}}])
def test_ingresses_that_are_not_ours_to_serve_are_passed_over(metadata: Any) -> None:
    assert of(ingress(rule("chat.team", *HALF), **metadata)).shared() == {}


def test_several_ingresses_of_a_function_count_together() -> None:
    mapping = ingress(rule("chat.example", ("chat-00009", 100)), name="chat.example")

    assert of(ingress(rule("chat.team", *HALF)), mapping).shared()[CHAT] == {"chat-00001", "chat-00002", "chat-00009"}


def test_a_changed_ingress_is_read_anew_and_a_deleted_one_is_forgotten() -> None:
    objects = {CHAT: ingress(rule("chat.team", *HALF))}
    rules = IngressRules(lambda: objects)
    assert rules.shared() == {CHAT: {"chat-00001", "chat-00002"}}

    objects[CHAT] = ingress(rule("chat.team", ("chat-00001", 100)), version="2")
    assert rules.shared() == {CHAT: {"chat-00001"}}
    objects.clear()
    assert rules.shared() == {}


def test_the_functions_own_splits_are_those_of_its_own_host() -> None:
    tag = HostRule(("old-chat.team",), (Split("chat-00001", 100),))
    by_header = HostRule(("chat.team",), (Split("chat-00003", 100),), (("Knative-Serving-Tag", "new"),))
    own = HostRule(("chat.team", "chat.team.svc"), (Split("chat-00001", 50), Split("chat-00002", 50)))

    assert own_splits(CHAT, (tag, by_header, own)) == own.splits
    assert own_splits(CHAT, (tag, by_header)) == ()
