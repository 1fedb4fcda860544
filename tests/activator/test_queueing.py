"""The queue's laws, whatever happens in whatever order, and its choices by example."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from pilotlight.activator.queueing import Queue, Ticket
from pilotlight.activator.values import Replica


def _replica(identity: str, slots: int = 1, weight: float = 1.0, *, accepting: bool = True) -> Replica:
    return Replica(identity, "rev-1", f"http://{identity}", "key", slots, weight, accepting)


class QueueMachine(RuleBasedStateMachine):
    """A model beside the queue: who arrived in which order, what the host last named."""

    tickets = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue()
        self.now = 0.0
        self.replicas: dict[str, Replica] = {}
        self.waiting: list[Ticket] = []
        self.running: set[Ticket] = set()
        self.caps_at_release: dict[Ticket, int] = {}

    @rule(target=tickets, batch=st.booleans())
    def arrive(self, batch: bool) -> Ticket:
        ticket = Ticket(batch)
        self.queue.enqueue(ticket)
        self.waiting.append(ticket)
        return ticket

    @rule(ticket=consumes(tickets))
    def leave(self, ticket: Ticket) -> None:
        self.queue.leave(ticket)
        self.queue.leave(ticket)
        self.running.discard(ticket)
        if ticket in self.waiting:
            self.waiting.remove(ticket)

    @rule(ticket=tickets)
    def lose_and_put_back(self, ticket: Ticket) -> None:
        if ticket.lane is None:
            return
        self.queue.suspect(ticket.lane, self.now, 0.5, 8.0)
        self.queue.leave(ticket)
        self.queue.enqueue(ticket, first=True)
        self.running.discard(ticket)
        self.waiting.insert(0, ticket)

    @rule(
        replicas=st.dictionaries(
            st.sampled_from("abc"), st.tuples(st.integers(0, 3), st.sampled_from([0.5, 1.0, 4.0]), st.booleans())
        )
    )
    def apply(self, replicas: dict[str, tuple[int, float, bool]]) -> None:
        self.replicas = {
            identity: _replica(identity, slots, weight, accepting=accepting)
            for identity, (slots, weight, accepting) in replicas.items()
        }
        self.queue.set_replicas(self.replicas.values())

    @rule(seconds=st.sampled_from([0.0, 0.5, 10.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def assign(self) -> None:
        before = {lane.replica.id: lane.in_flight for lane in self.queue.lanes()}
        released = self.queue.assign(self.now)
        expected = sorted(self.waiting, key=lambda ticket: ticket.batch)[: len(released)]
        assert released == expected, "first come first served, interactive before batch"
        for ticket in released:
            self.waiting.remove(ticket)
            self.running.add(ticket)
            assert ticket.lane is not None
            assert ticket.lane.replica.id in self.replicas
            assert ticket.lane.replica.accepting
        for lane in self.queue.lanes():
            if lane.in_flight > before.get(lane.replica.id, 0):
                assert lane.in_flight <= lane.replica.slots, "never above the cap"
        assert not self.waiting or not any(lane.is_open(self.now) for lane in self.queue.lanes()), (
            "nobody waits in vain"
        )

    @invariant()
    def nothing_is_lost_and_nothing_is_twice(self) -> None:
        in_order = sorted(self.waiting, key=lambda ticket: ticket.batch)
        assert list(self.queue.waiting()) == in_order
        assert self.queue.queued == len(self.waiting)
        assert self.queue.in_flight == len(self.running)
        assert sum(lane.in_flight for lane in self.queue.lanes()) == len(self.running)
        assert not self.running & set(self.waiting)

    @invariant()
    def only_named_or_running_lanes_remain(self) -> None:
        for lane in self.queue.lanes():
            assert lane.replica.id in self.replicas or lane.in_flight > 0


TestQueueLaws = QueueMachine.TestCase


@pytest.mark.parametrize(
    ("weights", "count", "expected"),
    [
        pytest.param((1.0, 1.0), 4, (2, 2), id="equal replicas share"),
        pytest.param((3.0, 1.0), 4, (3, 1), id="by capacity"),
        pytest.param((0.1, 1.0), 2, (0, 2), id="a weak one waits its turn"),
    ],
)
def test_the_least_weighted_load_wins(weights: tuple[float, float], count: int, expected: tuple[int, int]) -> None:
    queue = Queue()
    queue.set_replicas([_replica(f"r{index}", 10, weight) for index, weight in enumerate(weights)])
    for _ in range(count):
        queue.enqueue(Ticket(batch=False))
    queue.assign(0.0)
    assert tuple(lane.in_flight for lane in queue.lanes()) == expected


def test_a_suspect_is_left_alone_longer_with_every_failure() -> None:
    queue = Queue()
    queue.set_replicas([_replica("r1")])
    (lane,) = queue.lanes()
    closed: list[float] = []
    now = 0.0
    for _ in range(6):
        queue.suspect(lane, now, 0.5, 8.0)
        queue.suspect(lane, now, 0.5, 8.0)  # ten requests that fail together are one failure
        closed.append(lane.suspect_until - now)
        now = lane.suspect_until
        assert lane.is_open(now)
    assert closed == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    queue.trust(lane)
    queue.suspect(lane, now, 0.5, 8.0)
    assert lane.suspect_until - now == 0.5


def test_a_replica_that_was_started_anew_is_trusted() -> None:
    queue = Queue()
    queue.set_replicas([_replica("r1")])
    (lane,) = queue.lanes()
    queue.suspect(lane, 0.0, 0.5, 8.0)
    queue.set_replicas([replace(_replica("r1"), url="http://elsewhere")])
    assert lane.is_open(0.0)
