"""What an ingress of Knative says, in the activator's terms. Pure; an unknown shape is told, never raised."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pilotlight.activator.traffic import HostRule, Split
from pilotlight.platform.kubernetes.kinds import FUNCTION_LABEL, Key, Object, annotations_of, labels_of
from pilotlight.platform.kubernetes.knative import names

T = TypeVar("T")
U = TypeVar("U")

LOCAL = "ClusterLocal"


class _UnsupportedError(Exception):
    """A shape that the activator does not serve; the message says where, and what was expected."""


@dataclass(frozen=True)
class Certificate:
    """What HTTPS of some hosts is served with."""

    hosts: tuple[str, ...]
    secret: Key
    """Has `tls.crt` and `tls.key`."""


@dataclass(frozen=True)
class Rules:
    """One ingress."""

    function: Key | None
    """Whose it is; None: no function's."""
    hosts: tuple[HostRule, ...] = ()
    cluster_local: frozenset[str] = frozenset()
    """Of the hosts, those that are not for the world outside."""
    certificates: tuple[Certificate, ...] = ()
    redirects: bool = False
    """Whether plain HTTP from outside is sent to HTTPS."""
    problem: str = ""
    """What of it cannot be served, one sentence; the rest is."""


def read(ingress: Object) -> Rules:
    """A rule whose whole traffic follows the newest revision has no splits.

    Knative calls a revision that starts at zero ready at once and sends all to it; which revision serves while the new
    one starts is the function's own rollout to decide. A percentage, a tag or a revision that users name is kept.
    """
    problems: list[str] = []
    spec = ingress.get("spec") or {}
    newest = _newest(ingress)
    given = _tried(_objects(spec, "rules", "spec"), _rule, problems)
    paths = [
        (where, (hosts, path))
        for hosts, rule, place in given
        for where, path in _objects(rule.get("http") or {}, "paths", f"{place}.http")
    ]
    namespace = ingress["metadata"]["namespace"]
    return Rules(
        function=_function(ingress),
        hosts=tuple(_tried(paths, lambda path, where: _host_rule(*path, where, newest), problems)),
        cluster_local=frozenset(host for hosts, rule, _ in given if rule.get("visibility") == LOCAL for host in hosts),
        certificates=tuple(
            _tried(_objects(spec, "tls", "spec"), lambda each, where: _certificate(each, where, namespace), problems)
        ),
        redirects=spec.get("httpOption") == "Redirected",
        problem="; ".join(problems),
    )


def own_splits(function: Key, hosts: Iterable[HostRule]) -> tuple[Split, ...]:
    """Those of the function's own host: its tags have other hosts, or are chosen by a header."""
    name = f"{function.name}.{function.namespace}"
    return next((rule.splits for rule in hosts if name in rule.hosts and not rule.headers), ())


def _tried(parts: Iterable[tuple[str, T]], make: Callable[[T, str], U], problems: list[str]) -> list[U]:
    """What can be made of the parts, each with where it is; one that cannot does not take the others with it."""
    made = []
    for where, part in parts:
        try:
            made.append(make(part, where))
        except _UnsupportedError as error:
            problems.append(str(error))
    return made


def _rule(rule: Mapping[str, Any], where: str) -> tuple[tuple[str, ...], Mapping[str, Any], str]:
    return _texts(rule.get("hosts"), f"{where}.hosts"), rule, where


def _host_rule(hosts: tuple[str, ...], path: Mapping[str, Any], where: str, newest: frozenset[str]) -> HostRule:
    if path.get("path", "/") not in ("", "/"):
        raise _UnsupportedError(f"{where}.path: {path['path']!r} is not served, expected / alone")
    headers = tuple(_headers(path.get("headers") or {}, f"{where}.headers"))
    if path.get("rewriteHost"):
        # Of a DomainMapping: another name for what the function's own name leads to.
        return HostRule(hosts, (), headers)
    splits = tuple(_splits(path.get("splits"), f"{where}.splits"))
    if len(splits) == 1 and splits[0].revision in newest:
        splits = ()
    return HostRule(hosts, splits, headers)


def _headers(given: Any, where: str) -> Iterator[tuple[str, str]]:
    for name, match in given.items():
        if match.keys() != {"exact"}:
            raise _UnsupportedError(f"{where}.{name}: expected an exact value")
        yield str(name), str(match["exact"])


def _splits(given: Any, where: str) -> Iterator[Split]:
    """A lone backend need not say that it has 100 %."""
    if not given:
        raise _UnsupportedError(f"{where}: expected at least one backend")
    for number, split in enumerate(given):
        if not split.get("serviceName"):
            raise _UnsupportedError(f"{where}[{number}].serviceName: is missing")
        yield Split(split["serviceName"], split.get("percent", 100 if len(given) == 1 else 0))


def _certificate(entry: Mapping[str, Any], where: str, namespace: str) -> Certificate:
    if not entry.get("secretName"):
        raise _UnsupportedError(f"{where}.secretName: is missing")
    hosts = _texts(entry.get("hosts"), f"{where}.hosts")
    return Certificate(hosts, Key(entry.get("secretNamespace") or namespace, entry["secretName"]))


def _objects(holder: Mapping[str, Any], field: str, where: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The schema of the API server makes sure of the types."""
    return [(f"{where}.{field}[{number}]", each) for number, each in enumerate(holder.get(field) or ())]


def _texts(given: Any, where: str) -> tuple[str, ...]:
    if not given:
        raise _UnsupportedError(f"{where}: expected a list of names")
    return tuple(given)


def _newest(ingress: Object) -> frozenset[str]:
    """Revisions that have their traffic for being a configuration's newest; Knative notes those for rollouts."""
    try:
        rollout = json.loads(annotations_of(ingress).get(names.ROLLOUT, "{}"))
        return frozenset(
            str(revision["revisionName"])
            for configuration in rollout.get("configurations") or ()
            for revision in configuration.get("revisions") or ()
        )
    except (ValueError, AttributeError, KeyError, TypeError):
        return frozenset()


def _function(ingress: Object) -> Key | None:
    name = labels_of(ingress).get(FUNCTION_LABEL)
    return Key(ingress["metadata"]["namespace"], name) if name else None
