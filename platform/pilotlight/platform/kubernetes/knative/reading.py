"""The rules of all ingresses of ours, each read once per version of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

from pilotlight.activator.traffic import HostRule
from pilotlight.platform.kubernetes.kinds import Key, Object
from pilotlight.platform.kubernetes.knative.ingress import is_ours
from pilotlight.platform.kubernetes.knative.rules import Rules, read


class IngressRules:
    """For one thread."""

    def __init__(self, ingresses: Callable[[], Mapping[Key, Object]]) -> None:
        """`ingresses`: as a mirror has them."""
        self._ingresses = ingresses
        self._read: dict[Key, tuple[str, Rules]] = {}

    def hosts(self) -> dict[Key, tuple[HostRule, ...]]:
        """By function, as they are now; one without any is missing."""
        found = {key: each for key, each in self._ingresses().items() if is_ours(each)}
        before = self._read
        self._read = {}
        for key, each in found.items():
            version = each["metadata"]["resourceVersion"]
            known, rules = before.get(key, ("", None))
            self._read[key] = version, rules if rules is not None and known == version else read(each)
        hosts: dict[Key, tuple[HostRule, ...]] = defaultdict(tuple)
        for _, rules in self._read.values():
            if rules.function is not None:
                hosts[rules.function] += rules.hosts
        return dict(hosts)

    def shared(self) -> dict[Key, frozenset[str]]:
        """Revisions that users have given a share of the traffic, or a tag, by function."""
        return {
            function: frozenset(split.revision for rule in rules for split in rule.splits if split.percent > 0)
            for function, rules in self.hosts().items()
        }
