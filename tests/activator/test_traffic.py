"""Percentages, hosts and headers: which rule counts, and which revision a request's id goes to."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.activator.traffic import Address, HostRule, Split, assigned, chosen, normal, splits_at

IDS = [f"req-{number:032x}" for number in range(4000)]
TAG = ("Knative-Serving-Tag", "canary")
PLAIN = HostRule(("chat.team-a", "Chat.Team-A.svc"), (Split("chat-1", 90), Split("chat-2", 10)))
TAGGED = HostRule(("chat.team-a",), (Split("chat-2", 100),), (TAG,))


def splits() -> st.SearchStrategy[list[Split]]:
    percents = st.lists(st.integers(0, 100), min_size=1, max_size=5).filter(any)
    return percents.map(lambda found: [Split(f"r{index}", percent) for index, percent in enumerate(found)])


@given(splits=splits(), request=st.text(max_size=40))
def test_an_id_always_goes_to_the_same_revision_and_never_to_one_without_a_share(
    splits: list[Split], request: str
) -> None:
    revision = assigned(splits, request)
    assert revision == assigned(splits, request)
    assert revision in {split.revision for split in splits if split.percent}


@pytest.mark.parametrize("percent", [1, 10, 50, 90])
def test_shares_are_what_was_asked_for(percent: int) -> None:
    shares = Counter(assigned([Split("a", percent), Split("b", 100 - percent)], request) for request in IDS)
    assert shares["a"] / len(IDS) == pytest.approx(percent / 100, abs=0.02)


@given(before=st.integers(0, 100), after=st.integers(0, 100))
def test_a_change_of_percentages_moves_in_one_direction_only(before: int, after: int) -> None:
    for request in IDS[:200]:
        old = assigned([Split("a", before), Split("b", 100 - before)], request)
        new = assigned([Split("a", after), Split("b", 100 - after)], request)
        if old != new:
            assert new == ("a" if after > before else "b")


@pytest.mark.parametrize("nothing", [[], [Split("a", 0)]], ids=["no split", "no share"])
def test_without_shares_nothing_is_split(nothing: list[Split]) -> None:
    assert assigned(nothing, "req-1") is None


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("chat.team-a", "chat.team-a"),
        ("CHAT.Team-A.svc.Cluster.Local:8080", "chat.team-a.svc.cluster.local"),
        ("chat.team-a.svc.cluster.local.", "chat.team-a.svc.cluster.local"),
        ("chat.team-a:", "chat.team-a"),
        ("[::1]:80", "[::1]"),
        ("[::1]", "[::1]"),
        ("", ""),
    ],
)
def test_a_host_is_its_name_without_case_port_and_root(header: str, name: str) -> None:
    assert normal(header) == name


@pytest.mark.parametrize(
    ("headers", "rule"),
    [
        pytest.param({}, PLAIN, id="no header"),
        pytest.param({"knative-serving-tag": "canary"}, TAGGED, id="the tag"),
        pytest.param({"knative-serving-tag": "other"}, PLAIN, id="another tag"),
    ],
)
def test_the_rule_with_the_most_headers_that_match_counts(headers: dict[str, str], rule: HostRule) -> None:
    assert chosen((PLAIN, TAGGED), headers) is rule


def test_no_rule_counts_where_all_ask_for_headers() -> None:
    assert chosen((TAGGED,), {}) is None


@pytest.mark.parametrize(
    ("address", "splits"),
    [
        (Address("chat.team-a.svc"), PLAIN.splits),
        (Address("chat.team-a", (TAG,)), TAGGED.splits),
        (Address("chat.team-b"), ()),
        (Address(), ()),
    ],
)
def test_an_address_finds_the_splits_of_its_rule_again(address: Address, splits: tuple[Split, ...]) -> None:
    assert splits_at((PLAIN, TAGGED), address) == splits
