"""All checks, in the order in which one thing needs the other. Pure."""

from __future__ import annotations

from collections.abc import Callable

from pilotlight.platform.doctor import cluster, knative, system
from pilotlight.platform.doctor.facts import Facts
from pilotlight.platform.doctor.findings import Finding

CHECKS: tuple[Callable[[Facts], Finding], ...] = (
    cluster.version,
    cluster.clocks,
    cluster.accelerators,
    knative.version,
    knative.zero_initial_scale,
    knative.features,
    knative.ingress_class,
    knative.timeouts,
    knative.digests,
    system.rights,
    system.installed,
    system.kind,
    system.accounts,
    system.storage,
    system.database,
)


def judge(facts: Facts) -> tuple[Finding, ...]:
    return tuple(check(facts) for check in CHECKS)
