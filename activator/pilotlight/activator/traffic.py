"""Which revision a request goes to, and which function a host stands for. Pure.

A request's revision is a function of its id and the percentages that count for it: the same id goes to the same
revision for as long as these stay, and a change of them moves no more than it says.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Split:
    """A revision and its share of the requests."""

    revision: str
    percent: int  # of the splits' sum, which is 100 in a Knative Service


@dataclass(frozen=True)
class HostRule:
    """Hosts that stand for a function, as a rule of Knative's ingress has them.

    With `headers` it counts only for requests that have all of them with these values; of several rules that count,
    the one with the most headers is taken. Without `splits` the function's own count.
    """

    hosts: tuple[str, ...]  # without a port
    splits: tuple[Split, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()

    def matches(self, headers: Mapping[str, str]) -> bool:
        """`headers`: the request's, by lower-case name."""
        return all(headers.get(name.lower()) == value for name, value in self.headers)


@dataclass(frozen=True, slots=True)
class Address:
    """What a request called a function by, kept while it waits; the default: a path or the body's `model`."""

    host: str = ""
    headers: tuple[tuple[str, str], ...] = ()  # those of the rule that counted, not all of the request's


ANYWHERE = Address()


def normal(host: str) -> str:
    """A `Host` header's name: lower case, without port and the root's dot."""
    name, colon, port = host.strip().rpartition(":")
    return (name if colon and (port.isdigit() or not port) else host.strip()).lower().removesuffix(".")


def chosen(rules: Iterable[HostRule], headers: Mapping[str, str]) -> HostRule | None:
    """The rule that counts, of those with the request's host."""
    return max((rule for rule in rules if rule.matches(headers)), key=lambda rule: len(rule.headers), default=None)


def splits_at(rules: Iterable[HostRule], address: Address) -> tuple[Split, ...]:
    """The splits of the rule that an address was found by, as they are now; none where the rule is gone."""
    for rule in rules:
        if address.headers == rule.headers and any(normal(host) == address.host for host in rule.hosts):
            return rule.splits
    return ()


def assigned(splits: Iterable[Split], request: str) -> str | None:
    """The revision of a request's id; None: nothing is split."""
    weighed = [split for split in splits if split.percent > 0]
    if not weighed:
        return None
    point = zlib.crc32(request.encode()) * sum(split.percent for split in weighed) >> 32
    for split in weighed:
        point -= split.percent
        if point < 0:
            return split.revision
    raise AssertionError("a point lies within the sum")
