"""The certificates that HTTPS is served with, and the hosts that are sent to it: a folder's and those of ingresses."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from pilotlight.activator.tls import Certificate
from pilotlight.activator.traffic import normal
from pilotlight.activator.values import Clock
from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.errors import KubernetesError
from pilotlight.platform.kubernetes.kinds import SECRET, Key
from pilotlight.platform.kubernetes.knative.ingress import is_ours
from pilotlight.platform.kubernetes.knative.rules import Rules, read
from pilotlight.platform.kubernetes.mirror import Objects

SECRET_SECONDS = 300.0
"""A Secret is read again after so long: they are not watched, which takes a right to see all of them."""
CHAIN, PRIVATE_KEY = "tls.crt", "tls.key"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Wanted:
    """How HTTPS is to be served."""

    default: Certificate | None = None
    """For hosts without one of their own; None: no HTTPS."""
    hosts: Mapping[str, Certificate] = field(default_factory=dict)
    redirected: frozenset[str] = frozenset()
    """Hosts that plain HTTP is not for."""


class Source:
    """Blocking; for one thread at a time."""

    def __init__(
        self, api: Api, ingresses: Objects, folder: Path | None, clock: Clock, seconds: float = SECRET_SECONDS
    ) -> None:
        """`folder`: of the default certificate; without one, the first host's serves as such."""
        self._api = api
        self._ingresses = ingresses
        self._folder = folder
        self._clock = clock
        self._seconds = seconds
        self._known: dict[Key, tuple[float, Certificate]] = {}

    def read(self) -> Wanted:
        """As it is now; what cannot be read just now is as it was last."""
        rules = list(self._rules())
        wanted = [entry for each in rules for entry in each.certificates]
        secrets = {entry.secret for entry in wanted}
        found = {secret: self._of_secret(secret) for secret in secrets}
        self._known = {secret: known for secret, known in self._known.items() if secret in secrets}
        hosts = {
            host: certificate
            for entry in wanted
            if (certificate := found[entry.secret]) is not None
            for host in entry.hosts
        }
        default = self._of_folder() or (hosts[min(hosts)] if hosts else None)
        return Wanted(default, hosts, frozenset().union(*map(_redirected, rules)))

    def _rules(self) -> Iterator[Rules]:
        """Of the few ingresses that have to do with HTTPS."""
        for ingress in self._ingresses.objects.values():
            spec = ingress.get("spec") or {}
            if is_ours(ingress) and (spec.get("tls") or spec.get("httpOption")):
                yield read(ingress)

    def _of_secret(self, key: Key) -> Certificate | None:
        now = self._clock.monotonic()
        read_at, known = self._known.get(key, (0.0, None))
        if known is not None and now - read_at < self._seconds:
            return known
        try:
            data = self._api.get(SECRET, *key).get("data") or {}
            known = Certificate(b64decode(data[CHAIN]), b64decode(data[PRIVATE_KEY]))
            self._known[key] = now, known
        except KubernetesError as error:
            log.warning("certificate cannot be read", secret=str(key), error=str(error))
        except (KeyError, ValueError):
            log.error("not a certificate", secret=str(key), expected=f"{CHAIN} and {PRIVATE_KEY}")
        return known

    def _of_folder(self) -> Certificate | None:
        if self._folder is not None:
            with suppress(OSError):
                return Certificate((self._folder / CHAIN).read_bytes(), (self._folder / PRIVATE_KEY).read_bytes())
        return None


def _redirected(rules: Rules) -> frozenset[str]:
    """Hosts inside the cluster are called without TLS whatever the world outside has to do."""
    hosts = {host for rule in rules.hosts for host in rule.hosts} if rules.redirects else set()
    return frozenset(map(normal, hosts - rules.cluster_local))
