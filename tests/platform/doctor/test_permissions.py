"""Rights, from roles and objects to questions."""

from __future__ import annotations

import pytest

from pilotlight.platform.doctor.facts import Permission
from pilotlight.platform.doctor.permissions import attributes, granted, to_install
from pilotlight.platform.kubernetes.kinds import Object

ROLE: Object = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "Role",
    "metadata": {"name": "leader", "namespace": "system"},
    "rules": [
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": ["lead"],
            "verbs": ["get", "patch"],
        }
    ],
}
CLUSTER_ROLE: Object = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "metadata": {"name": "scaler"},
    "rules": [{"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["patch"]}],
}


def binding(kind: str, role: Object, account: str) -> Object:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": "b", **({"namespace": "system"} if kind == "RoleBinding" else {})},
        "roleRef": {"kind": role["kind"], "name": role["metadata"]["name"]},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": "system"}],
    }


def test_a_role_grants_where_it_is_bound_and_by_name() -> None:
    assert granted([ROLE, binding("RoleBinding", ROLE, "operator")], "operator") == (
        Permission("get", "coordination.k8s.io", "leases", "", "system", "lead"),
        Permission("patch", "coordination.k8s.io", "leases", "", "system", "lead"),
    )


def test_a_role_of_the_cluster_grants_everywhere_or_where_it_is_bound() -> None:
    everywhere = granted([CLUSTER_ROLE, binding("ClusterRoleBinding", CLUSTER_ROLE, "operator")], "operator")
    there = granted([CLUSTER_ROLE, binding("RoleBinding", CLUSTER_ROLE, "operator")], "operator")
    assert everywhere == (Permission("patch", "apps", "deployments", "scale"),)
    assert there == (Permission("patch", "apps", "deployments", "scale", "system"),)


def test_what_is_bound_to_another_account_is_not_granted() -> None:
    assert granted([ROLE, binding("RoleBinding", ROLE, "operator")], "activator") == ()


def test_an_installation_asks_once_for_each_kind_and_namespace() -> None:
    plurals = {("rbac.authorization.k8s.io/v1", "Role"): "roles"}
    wanted = to_install([ROLE, {**ROLE, "metadata": {"name": "other", "namespace": "system"}}, CLUSTER_ROLE], plurals)
    assert [(each.verb, each.resource, each.namespace) for each in wanted] == [
        (verb, "roles", "system") for verb in ("get", "create", "patch")
    ]


@pytest.mark.parametrize(
    ("permission", "said"),
    [
        (Permission("list", "", "secrets"), "list secrets"),
        (Permission("patch", "apps", "deployments", "scale"), "patch deployments/scale.apps"),
        (Permission("get", "", "secrets", namespace="system", name="tls"), "get secrets tls in system"),
    ],
)
def test_a_right_reads_as_kubectl_says_it(permission: Permission, said: str) -> None:
    assert str(permission) == said


def test_a_question_leaves_out_what_is_not_said() -> None:
    assert attributes(Permission("list", "", "secrets")) == {"verb": "list", "resource": "secrets"}
