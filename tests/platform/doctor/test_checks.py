"""What the doctor makes of a cluster, from facts as an API server gives them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pilotlight.platform.doctor import cluster, knative, system
from pilotlight.platform.doctor.checks import CHECKS, judge
from pilotlight.platform.doctor.facts import Facts, Permission, Probe
from pilotlight.platform.doctor.findings import Finding, Level
from pilotlight.platform.kubernetes.kinds import Object

NOW = 1_800_000_000.0
GPU_NODE = {"metadata": {"name": "gpu-1"}, "status": {"allocatable": {"nvidia.com/gpu": "8", "cpu": "64"}}}
Check = Callable[[Facts], Finding]


def component(name: str, available: int = 1, version: str = "1.21.0", grace: int = 3600) -> Object:
    return {
        "metadata": {"name": name, "labels": {"app.kubernetes.io/version": version}},
        "spec": {"replicas": 1, "template": {"spec": {"terminationGracePeriodSeconds": grace}}},
        "status": {"availableReplicas": available},
    }


def ours(name: str, available: int = 2, image: str = "registry.example.com/runtime@sha256:" + "0" * 64) -> Object:
    environment = [
        {"name": "PILOTLIGHT_RUNTIME_IMAGE", "value": image},
        {"name": "PILOTLIGHT_POD_NAME", "valueFrom": {}},
    ]
    containers = [{"name": "main", "image": "control:1", "env": environment}]
    return {
        "metadata": {"name": name},
        "spec": {"replicas": 2, "template": {"spec": {"containers": containers}}},
        "status": {"availableReplicas": available},
    }


KIND: Object = {"spec": {"versions": [{"name": "v1alpha1", "schema": {"spec": {"type": "object"}}}]}}
CONFIG = {
    "config-autoscaler": {"allow-zero-initial-scale": "true"},
    "config-defaults": {"max-revision-timeout-seconds": "3600"},
    "config-features": dict.fromkeys(knative.FEATURES.values(), "enabled"),
    "config-network": {"ingress-class": "pilotlight.ingress.networking.knative.dev"},
    "config-deployment": {},
}
GOOD = Facts(
    version="v1.35.4",
    knative=[component(name) for name in knative.COMPONENTS],
    config=CONFIG,
    nodes=[GPU_NODE],
    heartbeats={"gpu-1": NOW - 8},
    server_time=NOW,
    local_time=NOW + 0.4,
    crd=KIND,
    crd_wanted=KIND,
    system=[ours("pilotlight-operator"), ours("pilotlight-activator")],
    accounts={"pilotlight-operator": ((), ())},
    probe=Probe("", ""),
)


def with_config(name: str, **settings: str) -> Facts:
    return replace(GOOD, config={**CONFIG, name: {key.replace("_", "-"): value for key, value in settings.items()}})


def test_a_cluster_that_has_everything_needs_nothing() -> None:
    findings = judge(GOOD)
    assert {each.level for each in findings} == {Level.OK}
    assert {each.next for each in findings} == {""}
    assert len({each.check for each in findings}) == len(CHECKS)


def test_every_finding_that_is_not_good_says_what_to_do() -> None:
    for each in judge(Facts()):
        assert each.level is Level.OK or each.next, each.check


def test_a_cluster_without_the_platform_has_no_problem_for_that() -> None:
    bare = replace(GOOD, crd=None, system=(), accounts={}, probe=None)
    assert Level.PROBLEM not in {each.level for each in judge(bare)}


def test_what_cannot_be_read_is_a_warning_with_its_reason() -> None:
    names = ("config", "nodes", "system", "crd", "denied", "accounts", "probe")
    blind = replace(
        GOOD,
        config=None, nodes=None, system=None, crd=None, denied=None, accounts=None, probe=None,
        unread=dict.fromkeys(names, "forbidden: read"),
    )  # fmt: skip
    findings = judge(blind)
    assert Level.PROBLEM not in {each.level for each in findings}
    assert sum("forbidden: read" in each.found for each in findings) >= len(names)


PROBLEMS: tuple[tuple[str, Check, Facts, str], ...] = (
    ("old Kubernetes", cluster.version, replace(GOOD, version="v1.29.9"), "v1.29.9"),
    ("own clock", cluster.clocks, replace(GOOD, local_time=NOW - 900), "this machine: -900 s"),
    ("node's clock", cluster.clocks, replace(GOOD, heartbeats={"gpu-1": NOW + 600}), "gpu-1: +600 s"),
    ("no Knative", knative.version, replace(GOOD, knative=()), "not installed"),
    ("Knative away", knative.version, replace(GOOD, knative=[component("webhook", 0)]), "webhook"),
    (
        "old Knative",
        knative.version,
        replace(GOOD, knative=[component(name, version="1.18.2") for name in knative.COMPONENTS]),
        "1.18.2",
    ),
    ("no start at zero", knative.zero_initial_scale, with_config("config-autoscaler"), "false"),
    (
        "a field whose flag is off",
        knative.features,
        replace(
            with_config("config-features"),
            functions=[{"spec": {"pod": {"tolerations": [{"key": "gpu"}]}}}, {"spec": {}}],
        ),
        "tolerations",
    ),
    (
        "an operator that is away",
        system.installed,
        replace(GOOD, system=[ours("pilotlight-operator", 0)]),
        "pilotlight-operator",
    ),
    (
        "another version's kind",
        system.kind,
        replace(GOOD, crd={"spec": {"versions": [{"name": "v1alpha1"}]}}),
        "another version",
    ),
    (
        "a missing right",
        system.accounts,
        replace(GOOD, accounts={"pilotlight-activator": ((Permission("patch", "apps", "deployments", "scale"),), ())}),
        "pilotlight-activator may not patch deployments/scale.apps",
    ),
    ("no storage", system.storage, replace(GOOD, probe=Probe("access denied", "")), "access denied"),
    ("no database", system.database, replace(GOOD, probe=Probe("", "connection refused")), "connection refused"),
)
WARNINGS: tuple[tuple[str, Check, Facts, str], ...] = (
    ("a slow clock", cluster.clocks, replace(GOOD, local_time=NOW + 20), "this machine: +20 s"),
    ("a silent node", cluster.clocks, replace(GOOD, heartbeats={"gpu-1": NOW - 120}), "gpu-1: -60 s"),
    ("no GPU", cluster.accelerators, replace(GOOD, nodes=[{"metadata": {"name": "n"}, "status": {}}]), "none of 1"),
    (
        "a version that is not told",
        knative.version,
        replace(GOOD, knative=[component(name, version="devel") for name in knative.COMPONENTS]),
        "devel",
    ),
    ("flags that no function needs yet", knative.features, with_config("config-features"), "used by no function"),
    ("another ingress", knative.ingress_class, with_config("config-network", ingress_class="kourier"), "kourier"),
    ("a short timeout", knative.timeouts, with_config("config-defaults"), "600 s"),
    (
        "a Knative that ends sooner",
        knative.timeouts,
        replace(GOOD, knative=[component("activator", grace=600)]),
        "ends after 600 s",
    ),
    (
        "a tag to resolve",
        knative.digests,
        replace(GOOD, system=[ours("pilotlight-operator", image="team/runtime:1")]),
        "team/runtime:1",
    ),
    (
        "rights to install",
        system.rights,
        replace(GOOD, denied=[Permission("create", "", "namespaces")]),
        "create namespaces",
    ),
    (
        "a right too many",
        system.accounts,
        replace(GOOD, accounts={"pilotlight-operator": ((), (Permission("list", "", "secrets"),))}),
        "may also list secrets",
    ),
)


@pytest.mark.parametrize(("check", "facts", "said"), [p[1:] for p in PROBLEMS], ids=[p[0] for p in PROBLEMS])
def test_a_problem_is_found_named_and_followed_by_advice(check: Check, facts: Facts, said: str) -> None:
    finding = check(facts)
    assert finding.level is Level.PROBLEM
    assert said in finding.found
    assert finding.next


@pytest.mark.parametrize(("check", "facts", "said"), [w[1:] for w in WARNINGS], ids=[w[0] for w in WARNINGS])
def test_a_limit_is_a_warning(check: Check, facts: Facts, said: str) -> None:
    finding = check(facts)
    assert finding.level is Level.WARNING
    assert said in finding.found
    assert finding.next


@pytest.mark.parametrize(
    ("image", "skipped"),
    [
        ("registry.example.com/runtime:1", "registry.example.com"),
        ("pilotlight.local/runtime:dev", "kind.local, pilotlight.local"),
        ("localhost/runtime:1", "localhost"),
        ("host:5000/runtime", "host:5000"),
    ],
)
def test_tags_of_registries_that_knative_skips_are_not_resolved(image: str, skipped: str) -> None:
    facts = replace(
        with_config("config-deployment", registries_skipping_tag_resolving=skipped),
        system=[ours("pilotlight-operator", image=image)],
    )
    assert knative.digests(facts).level is Level.OK
    assert knative.digests(replace(facts, config=CONFIG)).level is Level.WARNING


def test_fields_that_the_api_server_adds_make_no_other_kind() -> None:
    served: dict[str, Any] = {
        "spec": {"conversion": {"strategy": "None"}, "versions": [{**KIND["spec"]["versions"][0], "served": True}]}
    }
    assert system.kind(replace(GOOD, crd=served)).level is Level.OK


def test_values_that_the_api_server_drops_make_no_other_kind() -> None:
    wanted = {"spec": {"versions": [{**KIND["spec"]["versions"][0], "priority": 0}]}}
    assert system.kind(replace(GOOD, crd_wanted=wanted)).level is Level.OK
    assert system.kind(replace(GOOD, crd_wanted={"spec": {"versions": [{"priority": 1}]}})).level is Level.PROBLEM


def test_the_advice_for_a_flag_is_a_command_that_sets_it() -> None:
    advice = knative.zero_initial_scale(with_config("config-autoscaler")).next
    assert """kubectl -n knative-serving patch configmap config-autoscaler --type merge -p '{"data":{""" in advice
    assert '"allow-zero-initial-scale":"true"' in advice
