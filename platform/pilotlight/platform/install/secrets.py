"""The Secrets that the processes need: which, what they hold, and which of them are made. Pure."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pilotlight.platform.install.rendering import deployments
from pilotlight.platform.keys import make_secret
from pilotlight.platform.kubernetes.kinds import MANAGED_BY, Object

MASTER = "pilotlight-master"
ADMIN = "pilotlight-admin"
DATABASE = "pilotlight-database"
S3 = "pilotlight-s3"
GRAFANA = "pilotlight-grafana"
EXTERNAL_TLS = "pilotlight-external-tls"
KEYS: Mapping[str, tuple[str, ...]] = {
    MASTER: ("master",),
    ADMIN: ("key",),
    DATABASE: ("url",),
    S3: ("AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"),
    GRAFANA: ("password",),
    EXTERNAL_TLS: ("tls.crt", "tls.key"),
}
"""What belongs into each; `manifests/base` has a template of those that every installation needs."""
Values = Mapping[str, str]


@dataclass(frozen=True)
class Plan:
    """What there is to do about the Secrets."""

    make: Mapping[str, Values]
    keep: tuple[str, ...]
    problems: tuple[str, ...]
    """Those that must be there and are not, or lack a key."""


def plan(objects: Sequence[Object], found: Mapping[str, Collection[str]]) -> Plan:
    """What is missing is made where it can be, and nothing that is there is changed.

    Args:
        objects: What is going to be applied.
        found: The keys of each Secret that is there, by its name.
    """
    wanted = needed(objects)
    recipes = _recipes(objects)
    make = {name: recipes[name]() for name in wanted if name not in found and name in recipes}
    problems = [_missing(name, wanted[name]) for name in wanted if name not in found and name not in recipes]
    problems += [
        f"the Secret {name} has no key {key}" for name in wanted for key in wanted[name]
        if name in found and key not in found[name]
    ]  # fmt: skip
    return Plan(make, tuple(name for name in wanted if name in found), tuple(problems))


def needed(objects: Sequence[Object]) -> dict[str, tuple[str, ...]]:
    """Secrets without which a pod does not start, and the keys that are asked for by name."""
    keys: dict[str, set[str]] = {}
    for name, key in _references(objects):
        keys.setdefault(name, set()).update({key} if key else ())
    return {name: tuple(sorted(keys[name])) for name in sorted(keys)}


def secret(namespace: str, name: str, values: Values) -> Object:
    """As the API server takes it."""
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    metadata = {"name": name, "namespace": namespace, "labels": dict(MANAGED_BY)}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}


def _references(objects: Sequence[Object]) -> Iterator[tuple[str, str]]:
    for deployment in deployments(objects):
        pod = deployment["spec"]["template"]["spec"]
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            yield from _of_container(container)
        for volume in pod.get("volumes", ()):
            if "secret" in volume and not volume["secret"].get("optional"):
                yield volume["secret"]["secretName"], ""


def _of_container(container: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for source in container.get("envFrom", ()):
        if "secretRef" in source and not source["secretRef"].get("optional"):
            yield source["secretRef"]["name"], ""
    for variable in container.get("env", ()):
        reference = variable.get("valueFrom", {}).get("secretKeyRef")
        if reference and not reference.get("optional"):
            yield reference["name"], reference["key"]


def _recipes(objects: Sequence[Object]) -> Mapping[str, Callable[[], Values]]:
    """S3 and database can be made only where the overlay brings the servers along."""
    present = {found["metadata"]["name"] for found in deployments(objects)}
    recipes: dict[str, Callable[[], Values]] = {
        MASTER: lambda: {"master": secrets.token_hex(32)},
        ADMIN: lambda: {"key": make_secret()},
        GRAFANA: lambda: {"password": secrets.token_urlsafe(24)},
    }
    if "pilotlight-postgres" in present:
        recipes[DATABASE] = _database
    if "pilotlight-minio" in present:
        recipes[S3] = _s3
    return recipes


def _database() -> Values:
    password = secrets.token_hex(24)
    url = f"postgresql://pilotlight:{password}@pilotlight-postgres.pilotlight-system.svc:5432/pilotlight"
    return {"url": url, "password": password}


def _s3() -> Values:
    return {
        "AWS_ENDPOINT_URL_S3": "http://pilotlight-minio.pilotlight-system.svc:9000",
        "AWS_ACCESS_KEY_ID": "pilotlight-" + secrets.token_hex(4),
        "AWS_SECRET_ACCESS_KEY": secrets.token_hex(24),
        "AWS_REGION": "us-east-1",
    }


def _missing(name: str, keys: Sequence[str]) -> str:
    return f"the Secret {name} is not there; it has the keys {', '.join(KEYS.get(name, tuple(keys)))}"
