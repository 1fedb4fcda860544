"""Judgements of what of ours is in the cluster: kind, rights, storage, database. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from pilotlight.platform.doctor.facts import Facts, Permission
from pilotlight.platform.doctor.findings import Finding, ok, problem, warning
from pilotlight.platform.kubernetes.kinds import Object

INSTALL = "install the platform: `pilotlight install`"
SHOWN = 5
"""Rights that are named; more are counted."""


def installed(facts: Facts) -> Finding:
    check, expected = "platform", "pilotlight-operator and pilotlight-activator available"
    if facts.system is None:
        return warning(
            check, f"not read: {facts.unread.get('system', '')}", expected, "see `kubectl -n pilotlight-system get all`"
        )
    if not facts.system:
        return warning(check, "not installed", expected, INSTALL)
    away = [found["metadata"]["name"] for found in facts.system if not _available(found)]
    if away:
        what_next = "`kubectl -n pilotlight-system get pods`, then `kubectl -n pilotlight-system logs deployment/NAME`"
        return problem(check, f"not available: {', '.join(away)}", expected, what_next)
    return ok(check, f"{len(facts.system)} Deployments available", expected)


def kind(facts: Facts) -> Finding:
    check, expected = "Function kind", "functions.pilotlight.dev as this version has it"
    if "crd" in facts.unread:
        return warning(check, f"not read: {facts.unread['crd']}", expected, "run it as someone who may read kinds")
    if facts.crd is None:
        return warning(check, "not there", expected, INSTALL)
    if facts.crd_wanted is None:
        return warning(check, "there, and nothing to compare it with", expected, "run it with the manifests at hand")
    if not _contains(facts.crd["spec"]["versions"], facts.crd_wanted["spec"]["versions"]):
        return problem(check, "of another version", expected, "install this version again: `pilotlight install`")
    return ok(check, "current", expected)


def rights(facts: Facts) -> Finding:
    check, expected = "rights to install", "every right that `pilotlight install` needs"
    if facts.denied is None:
        return warning(
            check, f"not read: {facts.unread.get('denied', '')}", expected, "see `kubectl auth can-i --list`"
        )
    if facts.denied:
        return warning(
            check, f"missing: {_listed(facts.denied)}", expected, "install as an administrator of the cluster"
        )
    return ok(check, "all there", expected)


def accounts(facts: Facts) -> Finding:
    check, expected = "rights of our processes", "what docs/kubernetes.md lists, and nothing beyond it"
    if facts.accounts is None:
        what_next = "run it as someone who may ask for others (SubjectAccessReview)"
        return warning(check, f"not read: {facts.unread.get('accounts', '')}", expected, what_next)
    if not facts.accounts:
        return warning(check, "not installed", expected, INSTALL)
    for account, (missing, _) in facts.accounts.items():
        if missing:
            return problem(
                check, f"{account} may not {_listed(missing)}", expected, "install again: `pilotlight install`"
            )
    for account, (_, beyond) in facts.accounts.items():
        if beyond:
            what_next = f"find the binding that names {account} or a group of it, and remove it"
            return warning(check, f"{account} may also {_listed(beyond)}", expected, what_next)
    return ok(check, "as listed", expected)


def storage(facts: Facts) -> Finding:
    expected = "a pod with the Secret pilotlight-s3 lists the bucket"
    what_next = "compare endpoint, credentials and bucket in the Secret pilotlight-s3, and the network policies"
    return _probed("S3", facts, facts.probe.s3 if facts.probe else "", expected, what_next)


def database(facts: Facts) -> Finding:
    expected = "a pod with the Secret pilotlight-database gets an answer"
    what_next = "compare the URL in the Secret pilotlight-database, its certificate settings, and the network policies"
    return _probed("PostgreSQL", facts, facts.probe.database if facts.probe else "", expected, what_next)


def _probed(check: str, facts: Facts, failure: str, expected: str, what_next: str) -> Finding:
    if facts.probe is None and not facts.system:
        return warning(check, "not tried: the platform is not installed", expected, INSTALL)
    if facts.probe is None:
        why = facts.unread.get("probe", "no pod was to be started")
        return warning(
            check, f"not tried: {why}", expected, "run `pilotlight doctor` again once the operator is available"
        )
    return problem(check, failure, expected, what_next) if failure else ok(check, "reached from a pod", expected)


def _available(deployment: Object) -> bool:
    wanted = deployment["spec"].get("replicas", 1)
    return bool(deployment.get("status", {}).get("availableReplicas", 0) >= min(wanted, 1))


def _listed(permissions: Sequence[Permission]) -> str:
    rest = f" and {len(permissions) - SHOWN} more" if len(permissions) > SHOWN else ""
    return ", ".join(map(str, permissions[:SHOWN])) + rest


def _contains(found: object, wanted: object) -> bool:
    """Whether all that is wanted is there; the API server adds defaults to what it is given, and drops empty values."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_contains(found.get(name), value) for name, value in wanted.items())
    if isinstance(wanted, list):
        return (
            isinstance(found, list)
            and len(found) == len(wanted)
            and all(_contains(one, other) for one, other in zip(found, wanted, strict=True))
        )
    return found == wanted or (found is None and not wanted)
