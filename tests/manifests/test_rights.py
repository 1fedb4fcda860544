"""The roles grant what docs/kubernetes.md lists, by name, and nothing by wildcard."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pilotlight.platform.doctor.permissions import FORBIDDEN, granted
from pilotlight.platform.kubernetes.kinds import Object

Rendered = Callable[[str], Sequence[Object]]
ACCOUNTS = ("pilotlight-operator", "pilotlight-activator")
PAGE = Path(__file__).parents[2] / "docs" / "kubernetes.md"
ROW = re.compile(r"^\| `([\w./-]+)` \| ([a-z, ]+) \| ([^|]*) \| [^|]+ \|$", re.MULTILINE)


def told(account: str) -> set[tuple[str, str, str]]:
    """Verb, resource with group and subresource, and namespace, from the account's table."""
    section = PAGE.read_text().partition(f"#### {account}\n")[2].partition("\n#")[0]
    return {
        (verb.strip(), resource, where.strip(" `"))
        for resource, verbs, where in ROW.findall(section)
        for verb in verbs.split(",")
    }


def written(objects: Sequence[Object], account: str) -> set[tuple[str, str, str]]:
    return {
        (each.verb, "/".join(filter(None, (each.group, each.resource, each.subresource))), each.namespace or "all")
        for each in granted(objects, account)
    }


@pytest.mark.parametrize("account", ACCOUNTS)
def test_the_documentation_lists_every_right_and_no_other(rendered: Rendered, account: str) -> None:
    assert written(rendered("overlays/production"), account) == told(account)


@pytest.mark.parametrize("name", ["overlays/dev", "overlays/production", "dev+observability"])
def test_nothing_is_granted_by_wildcard_or_through_a_role_of_the_cluster(rendered: Rendered, name: str) -> None:
    objects = rendered(name)
    names = {found["metadata"]["name"] for found in objects if found["kind"] in ("Role", "ClusterRole")}
    for found in objects:
        for rule in found.get("rules", ()):
            assert not any("*" in entry for entry in (*rule["apiGroups"], *rule["resources"], *rule["verbs"]))
        if found["kind"].endswith("RoleBinding") or found["kind"] == "RoleBinding":
            assert found["roleRef"]["name"] in names
            assert {subject["kind"] for subject in found["subjects"]} == {"ServiceAccount"}


@pytest.mark.parametrize("account", ACCOUNTS)
def test_what_would_hand_over_the_cluster_is_not_granted(rendered: Rendered, account: str) -> None:
    assert not set(FORBIDDEN) & set(granted(rendered("overlays/production"), account))


def test_the_activator_changes_nothing_but_the_scale(rendered: Rendered) -> None:
    changing = {
        right for right in written(rendered("overlays/production"), "pilotlight-activator")
        if right[0] not in ("get", "list", "watch")
    }  # fmt: skip
    assert changing == {("patch", "apps/deployments/scale", "all")}


def test_every_deployment_runs_as_an_account_of_its_own_or_none(rendered: Rendered) -> None:
    accounts = [
        found["spec"]["template"]["spec"].get("serviceAccountName")
        for found in rendered("overlays/dev")
        if found["kind"] == "Deployment"
    ]
    assert sorted(filter(None, accounts)) == ["pilotlight-activator", "pilotlight-operator"]
