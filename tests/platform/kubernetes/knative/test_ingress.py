"""Ingresses of Knative: what the activator routes by, and the status that makes a Service ready."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pilotlight.activator.traffic import HostRule, Split
from pilotlight.platform.kubernetes.kinds import Key, condition
from pilotlight.platform.kubernetes.knative.ingress import ACTIVATOR, status
from pilotlight.platform.kubernetes.knative.rules import Certificate, read

NOW = 1_790_000_000.0
HOST = "chat.team.svc.cluster.local"


def split(revision: str, percent: int = 100) -> dict[str, Any]:
    return {
        "serviceName": revision,
        "serviceNamespace": "team",
        "servicePort": 80,
        "percent": percent,
        "appendHeaders": {"Knative-Serving-Revision": revision, "Knative-Serving-Namespace": "team"},
    }


def rule(*paths: dict[str, Any], hosts: Any = (HOST,), visibility: str = "ClusterLocal") -> dict[str, Any]:
    return {"hosts": list(hosts), "visibility": visibility, "http": {"paths": list(paths)}}


def ingress(*rules: dict[str, Any], newest: str = "", **spec: Any) -> dict[str, Any]:
    rollout = {"configurations": [{"configurationName": "chat", "revisions": [{"revisionName": newest}]}]}
    return {
        "metadata": {
            "namespace": "team",
            "name": "chat",
            "generation": 3,
            "labels": {"pilotlight.dev/function": "chat"},
            "annotations": {"networking.internal.knative.dev/rollout": json.dumps(rollout)} if newest else {},
        },
        "spec": {"rules": list(rules), **spec},
    }


# Rules


def test_percentages_and_tags_are_kept() -> None:
    tagged = {"headers": {"Knative-Serving-Tag": {"exact": "old"}}, "splits": [split("chat-00001")]}
    found = read(ingress(rule(tagged, {"splits": [split("chat-00002", 75), split("chat-00001", 25)]})))

    assert found.hosts == (
        HostRule((HOST,), (Split("chat-00001", 100),), (("Knative-Serving-Tag", "old"),)),
        HostRule((HOST,), (Split("chat-00002", 75), Split("chat-00001", 25))),
    )
    assert (found.function, found.problem) == (Key("team", "chat"), "")


def test_traffic_that_follows_the_newest_revision_is_the_functions_own_to_place() -> None:
    found = read(ingress(rule({"splits": [split("chat-00002")]}), newest="chat-00002"))

    assert found.hosts == (HostRule((HOST,)),)


def test_a_revision_that_users_name_is_kept() -> None:
    found = read(ingress(rule({"splits": [split("chat-00001")]}), newest="chat-00002"))

    assert found.hosts == (HostRule((HOST,), (Split("chat-00001", 100),)),)


def test_hosts_for_inside_are_told_from_those_for_the_world() -> None:
    world = rule({"splits": [split("chat-00001")]}, hosts=["chat.example.org"], visibility="ExternalIP")
    found = read(ingress(rule({"splits": [split("chat-00001")]}), world))

    assert [each.hosts for each in found.hosts] == [(HOST,), ("chat.example.org",)]
    assert found.cluster_local == {HOST}


def test_another_name_of_a_function_leads_to_what_its_own_does() -> None:
    mapped = rule({"rewriteHost": HOST, "splits": [split("chat")]}, hosts=["llm.example.org"], visibility="ExternalIP")

    assert read(ingress(mapped)).hosts == (HostRule(("llm.example.org",)),)


def test_certificates_are_named_with_their_secrets() -> None:
    tls = [
        {"hosts": ["chat.example.org"], "secretName": "cert", "secretNamespace": "certificates"},
        {"hosts": ["b.example.org"], "secretName": "own"},
    ]
    found = read(ingress(tls=tls, httpOption="Redirected"))

    assert found.certificates == (
        Certificate(("chat.example.org",), Key("certificates", "cert")),
        Certificate(("b.example.org",), Key("team", "own")),
    )
    assert found.redirects


@pytest.mark.parametrize(
    ("broken", "where"),
    [
        (rule({"path": "/v2", "splits": [split("a")]}), "spec.rules[0].http.paths[0].path: '/v2'"),
        (rule({"splits": []}), "spec.rules[0].http.paths[0].splits: expected at least one backend"),
        (rule({"splits": [{"percent": 100}]}), "spec.rules[0].http.paths[0].splits[0].serviceName"),
        (rule({"headers": {"A": {"prefix": "b"}}, "splits": [split("a")]}), "paths[0].headers.A: expected an exact"),
        (rule({"splits": [split("a")]}, hosts=()), "spec.rules[0].hosts: expected a list of names"),
    ],
)
def test_what_cannot_be_served_is_told_with_its_place_and_the_rest_is_served(broken: Any, where: str) -> None:
    found = read(ingress(broken, rule({"splits": [split("chat-00001")]})))

    assert where in found.problem
    assert found.hosts == (HostRule((HOST,), (Split("chat-00001", 100),)),)


def test_a_certificate_without_a_secret_is_told() -> None:
    assert read(ingress(tls=[{"hosts": ["a"]}])).problem == "spec.tls[0].secretName: is missing"


@pytest.mark.parametrize(
    "note", ["", "no json", "[]", '{"configurations": 3}', '{"configurations": [{"revisions": [1]}]}']
)
def test_a_note_on_rollouts_that_cannot_be_read_is_none(note: str) -> None:
    found = ingress(rule({"splits": [split("chat-00001")]}))
    found["metadata"]["annotations"] = {"networking.internal.knative.dev/rollout": note}

    assert read(found).hosts[0].splits == (Split("chat-00001", 100),)


def test_an_empty_ingress_has_no_rules() -> None:
    assert read({"metadata": {"namespace": "team", "name": "chat"}}).hosts == ()


# Status


def written(found: dict[str, Any], routable: bool, now: float = NOW) -> dict[str, Any]:
    return {**found, "status": status(found, ACTIVATOR, routable, now) or found["status"]}


def states(found: dict[str, Any]) -> list[str]:
    return [condition(found, type_)["status"] for type_ in ("LoadBalancerReady", "NetworkConfigured", "Ready")]


def test_an_ingress_is_ready_when_an_activator_can_route() -> None:
    waiting = written(ingress(rule({"splits": [split("a")]})), routable=False)
    ready = written(waiting, routable=True, now=NOW + 60)

    assert states(waiting) == ["Unknown", "True", "Unknown"]
    assert states(ready) == ["True", "True", "True"]
    assert condition(ready, "NetworkConfigured")["lastTransitionTime"] == "2026-09-21T14:13:20Z"
    assert condition(ready, "Ready")["lastTransitionTime"] == "2026-09-21T14:14:20Z"
    assert ready["status"]["observedGeneration"] == 3
    for balancer in ("publicLoadBalancer", "privateLoadBalancer"):
        assert ready["status"][balancer] == {"ingress": [{"domainInternal": ACTIVATOR}]}


def test_one_that_is_as_it_should_be_is_not_written() -> None:
    found = written(ingress(rule({"splits": [split("a")]})), routable=True)

    assert status(found, ACTIVATOR, True, NOW + 100) is None


def test_one_that_cannot_be_served_says_why() -> None:
    found = written(ingress(rule({"path": "/v2", "splits": [split("a")]})), routable=True)

    assert states(found) == ["True", "False", "False"]
    assert "/v2" in condition(found, "Ready")["message"]
