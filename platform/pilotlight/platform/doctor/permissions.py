"""Rights: what an installation needs, what our processes have by the manifests, what they must not have. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pilotlight.platform.doctor.facts import Permission
from pilotlight.platform.kubernetes.kinds import Object

FORBIDDEN = (
    Permission("list", "", "secrets"),
    Permission("create", "", "pods"),
    Permission("create", "", "pods", "exec"),
    Permission("delete", "", "namespaces"),
    Permission("create", "rbac.authorization.k8s.io", "clusterrolebindings"),
    Permission("impersonate", "", "users"),
    Permission("update", "apps", "deployments"),
)
"""No process of ours needs them; who has one could take over pods or the cluster."""


def to_install(objects: Sequence[Object], plurals: Mapping[tuple[str, str], str]) -> tuple[Permission, ...]:
    """Server-side apply asks for patch, and for create where the object is missing.

    Args:
        objects: What is applied.
        plurals: The resource's name by API version and kind.
    """
    wanted: dict[Permission, None] = {}
    for found in objects:
        group = found["apiVersion"].rpartition("/")[0]
        resource = plurals.get((found["apiVersion"], found["kind"]))
        for verb in ("get", "create", "patch") if resource else ():
            wanted[Permission(verb, group, str(resource), namespace=found["metadata"].get("namespace", ""))] = None
    return tuple(wanted)


def granted(objects: Sequence[Object], account: str) -> tuple[Permission, ...]:
    """What the roles among the objects grant to a ServiceAccount, one by one."""
    roles = {
        (o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]): o.get("rules", ()) for o in objects
    }
    found: list[Permission] = []
    for binding in objects:
        if binding["kind"] not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        if any(subject["name"] == account for subject in binding["subjects"]):
            namespace = binding["metadata"].get("namespace", "")
            role = binding["roleRef"]
            key = (role["kind"], "" if role["kind"] == "ClusterRole" else namespace, role["name"])
            found += [each for rule in roles[key] for each in _of_rule(rule, namespace)]
    return tuple(dict.fromkeys(found))


def _of_rule(rule: Mapping[str, Any], namespace: str) -> Iterator[Permission]:
    for group in rule["apiGroups"]:
        for whole in rule["resources"]:
            resource, _, subresource = whole.partition("/")
            for verb in rule["verbs"]:
                for name in rule.get("resourceNames", [""]):
                    yield Permission(verb, group, resource, subresource, namespace, name)


def attributes(permission: Permission) -> dict[str, str]:
    """As a SubjectAccessReview asks."""
    given = {
        "verb": permission.verb,
        "group": permission.group,
        "resource": permission.resource,
        "subresource": permission.subresource,
        "namespace": permission.namespace,
        "name": permission.name,
    }
    return {name: value for name, value in given.items() if value}
