"""One bound for the whole cluster, whichever activator the requests come to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pilotlight.activator.values import FunctionId
from pilotlight.platform.link.sharing import Grants, even_part, shares
from pilotlight.platform.link.wire import Shares

CHAT = FunctionId("team-a", "chat")
NAMES = ["a", "b", "c"]
held = st.dictionaries(st.sampled_from([*NAMES, "d", "e"]), st.integers(0, 500), min_size=1)


@given(st.integers(0, 1000), held)
def test_shares_add_up_to_the_limit_and_nobody_is_below_what_it_holds(limit: int, queued: dict[str, int]) -> None:
    result = shares(limit, queued)

    assert result.keys() == queued.keys()
    assert sum(result.values()) == max(limit, sum(queued.values()))
    assert all(result[name] >= queued[name] for name in queued)


@given(st.integers(0, 1000), held)
def test_free_room_is_split_evenly_and_the_odd_rest_goes_to_those_with_least(
    limit: int, queued: dict[str, int]
) -> None:
    room = {name: share - queued[name] for name, share in shares(limit, queued).items()}

    assert max(room.values()) - min(room.values()) <= 1
    favoured = [queued[name] for name in room if room[name] > min(room.values())]
    others = [queued[name] for name in room if room[name] == min(room.values())]
    assert not favoured or max(favoured) <= min(others)


class Cluster:
    """Activators that hold as much as they may, and a leader that knows of it what they reported last."""

    def __init__(self, limit: int, count: int) -> None:
        self.limit = limit
        self.names = NAMES[:count]
        self.holds = dict.fromkeys(self.names, 0)
        self.reported: dict[str, dict[FunctionId, int]] = {name: {} for name in self.names}
        self.shares = {name: Shares(count) for name in self.names}
        self.grants = Grants(lambda _function: limit)

    def bound(self, name: str) -> int:
        return self.shares[name].bound(CHAT, self.limit)

    def arrive(self, name: str, count: int) -> None:
        self.holds[name] += min(count, max(0, self.bound(name) - self.holds[name]))

    def leave(self, name: str, count: int) -> None:
        self.holds[name] -= min(count, self.holds[name])

    def report(self, name: str) -> None:
        self.reported[name] = {CHAT: self.holds[name]} if self.holds[name] else {}
        self.shares[name] = Shares(len(self.names), self.grants.answer(name, self.reported))


steps = st.lists(st.tuples(st.sampled_from(["arrive", "leave", "report"]), st.integers(0, 2), st.integers(0, 300)))


@given(st.integers(3, 300), st.integers(1, 3), steps)
def test_what_waits_in_all_activators_never_exceeds_the_limit(
    limit: int, count: int, story: list[tuple[str, int, int]]
) -> None:
    cluster = Cluster(limit, count)
    for verb, which, number in story:
        name = cluster.names[which % count]
        if verb == "report":
            cluster.report(name)
        elif verb == "arrive":
            cluster.arrive(name, number)
        else:
            cluster.leave(name, number)
        assert sum(cluster.holds.values()) <= limit
        assert sum(max(cluster.bound(each), cluster.holds[each]) for each in cluster.names) <= limit


@given(st.integers(3, 300), st.integers(1, 3))
def test_an_activator_that_gets_all_requests_soon_may_hold_nearly_all(limit: int, count: int) -> None:
    cluster = Cluster(limit, count)
    for _ in range(40):
        cluster.arrive("a", limit)
        for name in cluster.names:
            cluster.report(name)
    assert cluster.bound("a") >= limit - 2 * count


@given(st.integers(3, 300), st.integers(2, 3), steps)
def test_at_rest_all_are_equal_again_and_nothing_is_remembered(
    limit: int, count: int, story: list[tuple[str, int, int]]
) -> None:
    cluster = Cluster(limit, count)
    for verb, which, number in story:
        name = cluster.names[which % count]
        cluster.arrive(name, number)
        cluster.report(name)
        assert verb
    for name in cluster.names * 2:
        cluster.leave(name, limit)
        cluster.report(name)
    assert {cluster.bound(name) for name in cluster.names} == {even_part(limit, count)}
    assert [dict(cluster.shares[name].by_function) for name in cluster.names] == [{}] * count


def test_a_bound_smaller_than_the_number_of_activators_lets_each_wake_the_function() -> None:
    assert even_part(1, 3) == 1
