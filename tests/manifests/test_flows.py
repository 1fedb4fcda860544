"""The NetworkPolicies allow one table of flows and no others, read as their standard says: no cluster enforces them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import pytest

from pilotlight.platform.kubernetes.kinds import Object

SYSTEM = "pilotlight-system"
Rendered = Callable[[str], Sequence[Object]]


@dataclass(frozen=True, eq=False)
class Party:
    """A pod, by what policies see of it; `outside`: an address that is no pod."""

    name: str
    namespace: str = SYSTEM
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    outside: bool = False

    @property
    def of_namespace(self) -> Mapping[str, str]:
        return {"kubernetes.io/metadata.name": self.namespace, **self.namespace_labels}


Flows = Set[tuple[Party, Party, int]]


def _ours(name: str) -> Party:
    return Party(name, labels={"app.kubernetes.io/name": name})


OPERATOR = _ours("pilotlight-operator")
ACTIVATOR = _ours("pilotlight-activator")
DOCTOR = _ours("pilotlight-doctor")
MINIO = _ours("pilotlight-minio")
POSTGRES = _ours("pilotlight-postgres")
PROMETHEUS, GRAFANA = _ours("prometheus"), _ours("grafana")
COLLECTOR, TEMPO = _ours("collector"), _ours("tempo")
STRANGER = Party("stranger in our namespace")
FUNCTION = Party("function", "team-a", {"pilotlight.dev/function": "chat"})
CLIENT = Party("client", "team-b")
MONITORING = Party("monitoring", "observability", namespace_labels={"pilotlight.dev/metrics": "allowed"})
KNATIVE = Party("Knative's activator", "knative-serving", {"app": "activator"})
OUTSIDE = Party("outside", "", outside=True)

PARTIES = (
    OPERATOR, ACTIVATOR, DOCTOR, MINIO, POSTGRES, PROMETHEUS, GRAFANA, COLLECTOR, TEMPO, STRANGER,
    FUNCTION, CLIENT, MONITORING, KNATIVE, OUTSIDE,
)  # fmt: skip
PORTS = (
    53, 80, 443, 3000, 3200, 4317, 4318, 5432, 6443, 8012, 8013, 8080, 8081, 8443, 8500, 9000, 9090, 9443, 13133,
)  # fmt: skip

EVERYBODY = tuple(party for party in PARTIES if party.namespace != SYSTEM)
"""Pods of our own namespace may send only what is listed for them."""
FLOWS: frozenset[tuple[Party, Party, int]] = frozenset(
    {
        # Clients, and their load balancers; functions may call each other.
        *((party, ACTIVATOR, port) for party in EVERYBODY for port in (8080, 8443)),
        # The link, and the forwarded interface.
        (ACTIVATOR, OPERATOR, 9443),
        # Requests, and how far a start is.
        (ACTIVATOR, FUNCTION, 8012),
        (ACTIVATOR, FUNCTION, 8500),
        (OPERATOR, FUNCTION, 8500),
        # Through a revision's own address, and back.
        (ACTIVATOR, KNATIVE, 8012),
        (ACTIVATOR, KNATIVE, 8013),
        (KNATIVE, FUNCTION, 8012),
        (KNATIVE, FUNCTION, 9090),
        # API server, S3 and database that are elsewhere.
        *((party, OUTSIDE, port) for party in (ACTIVATOR, OPERATOR) for port in (443, 6443, 5432)),
        *((DOCTOR, OUTSIDE, port) for port in (443, 5432)),
        # Metrics.
        (MONITORING, OPERATOR, 8081),
        (MONITORING, ACTIVATOR, 8081),
        # The overlay dev.
        *((party, MINIO, 9000) for party in (ACTIVATOR, OPERATOR, DOCTOR, FUNCTION)),
        *((party, POSTGRES, 5432) for party in (ACTIVATOR, OPERATOR, DOCTOR)),
        # Names.
        *((party, OUTSIDE, 53) for party in PARTIES if party.namespace == SYSTEM),
    }
)

OBSERVED: frozenset[tuple[Party, Party, int]] = frozenset(
    {
        *((PROMETHEUS, party, 8081) for party in (OPERATOR, ACTIVATOR)),
        # The API server, where it finds them.
        *((PROMETHEUS, OUTSIDE, port) for port in (443, 6443)),
        *((party, COLLECTOR, port) for party in (OPERATOR, ACTIVATOR) for port in (4317, 4318)),
        (COLLECTOR, TEMPO, 4317),
        (GRAFANA, PROMETHEUS, 9090),
        (GRAFANA, TEMPO, 3200),
    }
)
"""Beside them, with the component."""
BY_OVERLAY = pytest.mark.parametrize(
    ("overlay", "flows"), [("overlays/dev", FLOWS), ("dev+observability", FLOWS | OBSERVED)], ids=["dev", "observed"]
)


def allowed(policies: Sequence[Object], source: Party, target: Party, port: int) -> bool:
    """As the NetworkPolicy standard says: both ends must agree, and an end that no policy selects agrees to all."""
    return _agrees(policies, "Egress", source, target, port) and _agrees(policies, "Ingress", target, source, port)


def _agrees(policies: Sequence[Object], direction: str, of: Party, other: Party, port: int) -> bool:
    chosen = [p["spec"] for p in policies if direction in p["spec"]["policyTypes"] and _selects(p, of)]
    rules = [rule for spec in chosen for rule in spec.get(direction.lower(), ())]
    return not chosen or any(_rule_takes(rule, direction, of, other, port) for rule in rules)


def _rule_takes(rule: Mapping[str, Any], direction: str, of: Party, other: Party, port: int) -> bool:
    peers = rule.get("from" if direction == "Ingress" else "to")
    ports = rule.get("ports")
    return (peers is None or any(_peer(peer, of, other) for peer in peers)) and (
        ports is None or any(each["port"] == port and each["protocol"] == "TCP" for each in ports)
    )


def _selects(policy: Object, party: Party) -> bool:
    same = policy["metadata"].get("namespace", party.namespace) == party.namespace
    return same and not party.outside and _matches(policy["spec"]["podSelector"], party.labels)


def _peer(peer: Mapping[str, Any], of: Party, other: Party) -> bool:
    if other.outside:
        return False
    if "namespaceSelector" in peer:
        if not _matches(peer["namespaceSelector"], other.of_namespace):
            return False
    elif other.namespace != of.namespace:
        return False
    return _matches(peer.get("podSelector", {}), other.labels)


def _matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for expression in selector.get("matchExpressions", ()):
        if expression["operator"] == "Exists" and expression["key"] not in labels:
            return False
        if expression["operator"] == "In" and labels.get(expression["key"]) not in expression["values"]:
            return False
        assert expression["operator"] in ("Exists", "In"), "this reading knows no other"
    return True


def policies(rendered: Rendered, overlay: str) -> list[Object]:
    objects = (*rendered(overlay), *rendered("function-namespace"))
    return [found for found in objects if found["kind"] == "NetworkPolicy"]


def guarded(party: Party) -> bool:
    """Pods that policies of ours select, and what is outside: of others' pods only what is needed is checked."""
    return party.namespace == SYSTEM or party in (FUNCTION, OUTSIDE)


@BY_OVERLAY
def test_every_flow_of_the_table_is_allowed(rendered: Rendered, overlay: str, flows: Flows) -> None:
    found = policies(rendered, overlay)
    refused = [(s.name, t.name, port) for s, t, port in flows if not allowed(found, s, t, port)]
    assert refused == []


@BY_OVERLAY
def test_no_other_flow_is_allowed(rendered: Rendered, overlay: str, flows: Flows) -> None:
    found = policies(rendered, overlay)
    beyond = [
        (source.name, target.name, port)
        for source in PARTIES
        for target in PARTIES
        for port in PORTS
        if guarded(target)
        and (source.namespace == SYSTEM or target is not OUTSIDE)  # where others send to is not ours to say
        and (source, target, port) not in flows
        and allowed(found, source, target, port)
    ]
    assert beyond == []


def test_without_the_policies_the_reading_allows_what_it_denies_with_them() -> None:
    assert allowed((), CLIENT, POSTGRES, 5432)


@pytest.mark.parametrize("overlay", ["overlays/dev", "dev+observability"])
def test_no_policy_is_there_in_vain(rendered: Rendered, overlay: str) -> None:
    found = policies(rendered, overlay)
    everything = effect(found)
    idle = [each["metadata"]["name"] for each in found if effect([p for p in found if p is not each]) == everything]
    assert idle == []


def effect(found: Sequence[Object]) -> set[tuple[Party, Party, int]]:
    return {(s, t, port) for s in PARTIES for t in PARTIES for port in PORTS if allowed(found, s, t, port)}
