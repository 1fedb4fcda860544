"""Judgements of the cluster itself: version, nodes, clocks. Pure."""

from __future__ import annotations

import re

from pilotlight.platform.doctor.facts import Facts
from pilotlight.platform.doctor.findings import Finding, ok, problem, warning
from pilotlight.platform.kubernetes.nodes import GPU

OLDEST = (1, 30)
TESTED = "1.35"
SKEW_SECONDS = 5.0
"""Beyond it times in logs and bills are misleading."""
BROKEN_SKEW_SECONDS = 240.0
"""Certificates of ours are dated back by 300 s, and S3 signatures hold for 900 s."""
HEARTBEAT_SECONDS = 60.0
"""A node renews its lease every 10 s."""


def version(facts: Facts) -> Finding:
    check, expected = "Kubernetes", f"{OLDEST[0]}.{OLDEST[1]} or later (tested: {TESTED})"
    numbers = re.match(r"v(\d+)\.(\d+)", facts.version)
    if numbers is None:
        return warning(check, facts.unread.get("version", facts.version), expected, "see `kubectl version`")
    if (int(numbers[1]), int(numbers[2])) < OLDEST:
        return problem(check, facts.version, expected, "upgrade the cluster")
    return ok(check, facts.version, expected)


def accelerators(facts: Facts) -> Finding:
    check, expected = "GPUs", f"nodes that offer {GPU}"
    if facts.nodes is None:
        return warning(
            check, f"not read: {facts.unread.get('nodes', '')}", expected, "run it as someone who may list nodes"
        )
    offers = {
        found["metadata"]["name"]: count
        for found in facts.nodes
        if (count := int(found.get("status", {}).get("allocatable", {}).get(GPU, 0)))
    }
    if not offers:
        what_next = "functions for processors run; for others, add nodes with GPUs and NVIDIA's device plugin"
        return warning(check, f"none of {len(facts.nodes)} nodes has one", expected, what_next)
    return ok(check, ", ".join(f"{name}: {count}" for name, count in sorted(offers.items())), expected)


def clocks(facts: Facts) -> Finding:
    """The API server's date has whole seconds, and a heartbeat is as old as its period."""
    check, expected = "clocks", f"this machine and the nodes within {SKEW_SECONDS:.0f} s of the API server"
    if not facts.server_time:
        return warning(
            check, f"not read: {facts.unread.get('server_time', '')}", expected, "see `date` on each machine"
        )
    skews = {"this machine": facts.local_time - facts.server_time}
    for node, renewed in (facts.heartbeats or {}).items():
        age = facts.server_time - renewed
        # An old heartbeat may also be a node that is away: only one from the future is certain.
        skews[node] = -age if age < 0 else min(0.0, HEARTBEAT_SECONDS - age)
    worst = max(skews, key=lambda name: abs(skews[name]))
    found = f"{worst}: {skews[worst]:+.0f} s"
    if abs(skews[worst]) > BROKEN_SKEW_SECONDS:
        return problem(check, found, expected, f"synchronize the clock of {worst}: certificates and S3 signatures fail")
    if abs(skews[worst]) > SKEW_SECONDS:
        return warning(check, found, expected, f"synchronize the clock of {worst}, or see whether it is away")
    return ok(check, f"at most {max(abs(skew) for skew in skews.values()):.0f} s apart", expected)
