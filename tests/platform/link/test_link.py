"""Activators and a leader over real TLS: reports, wakes, shares, a leader that goes and another that comes."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from pilotlight.activator.values import Demand, FunctionId
from pilotlight.platform.clock import SystemClock
from pilotlight.platform.link.app import link_app
from pilotlight.platform.link.certificates import authority
from pilotlight.platform.link.hub import Hub
from pilotlight.platform.link.reporter import Reporter, ReporterSettings
from pilotlight.platform.link.wire import REPORT_PATH, VERSION, Shares, decode_answer, encode_report

if TYPE_CHECKING:
    from tests.platform.link.conftest import FakeClock, MakeReport, Pki, Serving, Work

Eventually = Callable[[Callable[[], bool], str], Awaitable[None]]

CHAT = FunctionId("team-a", "chat")
PATIENT = ReporterSettings(tick_seconds=0.02, heartbeat_seconds=3600.0, post_seconds=20.0)
"""No test waits for a heartbeat by chance, and a slow machine is no silent leader."""
BEATING = ReporterSettings(tick_seconds=0.02, heartbeat_seconds=0.05, post_seconds=20.0, back_off_most_seconds=0.1)


@dataclass
class Leader:
    """A process that leads or does not, with what it was told."""

    name: str = "operator-1"
    leader: str = "operator-1"
    woken: list[FunctionId] = field(default_factory=list)
    losses: list[tuple[FunctionId, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hub = Hub(self.name, SystemClock(), lambda: 1, lambda _function: 1000)
        self.app = link_app(
            self.hub,
            self.woken.append,
            lambda *loss: self.losses.append(loss),
            leader=lambda: self.leader,
            me=self.name,
        )


@asynccontextmanager
async def reporting(
    url: str, pki: Pki, work: Work, settings: ReporterSettings = PATIENT, **options: Any
) -> AsyncIterator[Reporter]:
    reporter = Reporter("a-1", url, pki.client(), SystemClock(), settings=settings, **options)
    await reporter.start(work)
    try:
        yield reporter
    finally:
        await reporter.close()


@pytest.fixture
def leader() -> Leader:
    return Leader()


async def test_demand_and_its_changes_reach_the_leader(
    pki: Pki, serving: Serving, leader: Leader, work: Work, eventually: Eventually
) -> None:
    work.put(CHAT, in_flight=2, per_replica=(("pod-1", 2),))
    async with serving(leader.app, pki.server()) as url, reporting(url, pki, work) as reporter:
        await eventually(lambda: leader.hub.demand() == work.demands, "the first report")
        work.put(CHAT, in_flight=1, arrived_total=3)
        await eventually(lambda: leader.hub.demand() == work.demands, "the change")
        work.drop(CHAT)
        await eventually(lambda: leader.hub.demand() == {}, "the function's end")
        assert reporter.connected


async def test_a_wake_is_told_at_once_with_its_demand_and_its_cause(
    pki: Pki, serving: Serving, leader: Leader, work: Work, eventually: Eventually
) -> None:
    slow = ReporterSettings(tick_seconds=3600.0, heartbeat_seconds=3600.0, post_seconds=20.0)
    async with (
        serving(leader.app, pki.server()) as url,
        reporting(url, pki, work, slow, cause=lambda _function: "k-alice") as reporter,
    ):
        await eventually(lambda: reporter.connected, "the first report")
        work.put(CHAT, queued=1)
        reporter.wake(CHAT)
        await eventually(lambda: leader.woken == [CHAT], "the wake, which waits for no tick")
        assert leader.hub.demand()[CHAT].queued == 1
        assert leader.hub.cause(CHAT) == "k-alice"
        reporter.lost(CHAT, "pod-1", "it died")
        await eventually(lambda: bool(leader.losses), "the loss of a replica")
        assert leader.losses == [(CHAT, "pod-1", "it died")]
        assert leader.woken == [CHAT]


async def test_at_rest_only_heartbeats_are_sent(
    pki: Pki, serving: Serving, leader: Leader, work: Work, eventually: Eventually
) -> None:
    sizes: list[int] = []

    async def counting(scope: Any, receive: Any, send: Any) -> None:
        sizes.append(int(dict(scope["headers"])[b"content-length"]))
        await leader.app(scope, receive, send)

    for number in range(1000):
        work.put(FunctionId("team-a", f"f{number}"))
    async with serving(counting, pki.server()) as url, reporting(url, pki, work, BEATING):
        await eventually(lambda: len(sizes) >= 5, "five reports")
        assert len(leader.hub.demand()) == 1000
    assert sizes[0] > 50_000
    assert max(sizes[1:]) < 300
    assert work.asked == 1


async def test_shares_come_back(
    pki: Pki, serving: Serving, leader: Leader, work: Work, eventually: Eventually, report: MakeReport
) -> None:
    told: list[Shares] = []
    leader.hub.take(report("a-2", demands={CHAT: Demand(100, 0, 100, 1.0)}))
    async with serving(leader.app, pki.server()) as url, reporting(url, pki, work, BEATING) as reporter:
        reporter.on_shares(told.append)
        await eventually(lambda: bool(told), "an answer")
    assert told[-1].activators == 2
    assert told[-1].bound(CHAT, 1000) == 450


async def test_all_is_told_again_to_the_next_leader_and_nothing_is_lost_between(
    pki: Pki, serving: Serving, work: Work, eventually: Eventually
) -> None:
    first, second = Leader(), Leader("operator-2", "operator-2")
    work.put(CHAT, queued=1)
    async with serving(first.app, pki.server()) as url:
        reporter = Reporter("a-1", url, pki.client(), SystemClock(), settings=BEATING)
        await reporter.start(work)
        await eventually(lambda: reporter.connected, "the first leader's answer")
    await eventually(lambda: not reporter.connected, "the first leader's end to be seen")
    work.put(CHAT, queued=2)
    reporter.wake(CHAT)
    async with serving(second.app, pki.server(), urlsplit(url).port):
        await eventually(lambda: second.woken == [CHAT], "the wake at the second leader")
        assert second.hub.demand() == work.demands
        await eventually(lambda: reporter.connected, "the second leader's answer")
    await reporter.close()


async def test_a_process_that_does_not_lead_says_who_does_and_closes_the_connection(
    pki: Pki, serving: Serving, leader: Leader, report: MakeReport
) -> None:
    leader.leader = "operator-2"
    async with (
        serving(leader.app, pki.server()) as url,
        aiohttp.ClientSession() as session,
        session.post(url + REPORT_PATH, data=encode_report(report()), ssl=pki.client()()) as response,
    ):
        assert response.status == 503
        assert await response.json() == {"leader": "operator-2"}
        assert response.headers["Connection"] == "close"
        assert response.headers["Retry-After"] == "1"
    assert leader.hub.activators() == {}


async def test_a_reporter_goes_on_when_its_process_begins_to_lead(
    pki: Pki, serving: Serving, leader: Leader, work: Work, eventually: Eventually
) -> None:
    leader.leader = ""
    work.put(CHAT, queued=1)
    async with serving(leader.app, pki.server()) as url, reporting(url, pki, work, BEATING) as reporter:
        reporter.wake(CHAT)
        leader.leader = leader.name
        await eventually(lambda: leader.woken == [CHAT], "the wake")
        await eventually(lambda: leader.hub.demand() == work.demands, "what waits there")
        assert set(leader.woken) == {CHAT}


async def test_certificates_are_rotated_while_reports_go_on(
    pki: Pki, serving: Serving, leader: Leader, work: Work, eventually: Eventually
) -> None:
    peers: list[int] = []

    async def watching(scope: Any, receive: Any, send: Any) -> None:
        peers.append(scope["client"][1])
        await leader.app(scope, receive, send)

    async with serving(watching, pki.server()) as url, reporting(url, pki, work, BEATING) as reporter:
        await eventually(lambda: reporter.connected, "the first answer")
        before = set(peers)
        pki.ca = authority(datetime.now(UTC))
        pki.renew()
        await eventually(lambda: not before.issuperset(peers) and reporter.connected, "a connection by the new ones")
        work.put(CHAT, queued=7)
        await eventually(lambda: leader.hub.demand() == work.demands, "a report over it")
        assert len(before) == 1


async def test_a_leader_that_does_not_answer_is_given_up_in_time(pki: Pki, serving: Serving, work: Work) -> None:
    asked = asyncio.Event()

    async def silent(_scope: Any, receive: Any, _send: Any) -> None:
        asked.set()
        while (await receive())["type"] != "http.disconnect":
            pass

    hasty = ReporterSettings(post_seconds=0.05, back_off_most_seconds=0.05)
    async with serving(silent, pki.server()) as url, reporting(url, pki, work, hasty) as reporter:
        await asked.wait()
        asked.clear()
        await asked.wait()  # it gave up, and asks again
        assert not reporter.connected


async def test_silence_is_counted_from_the_last_answer(
    pki: Pki, serving: Serving, leader: Leader, work: Work, eventually: Eventually, clock: FakeClock
) -> None:
    reporter = Reporter("a-1", "https://127.0.0.1:1", pki.client(), clock)
    clock.advance(5.0)
    assert reporter.silent_seconds == 5.0
    async with serving(leader.app, pki.server()) as url:
        reporter = Reporter("a-1", url, pki.client(), clock, settings=PATIENT)
        clock.advance(5.0)
        await reporter.start(work)
        await eventually(lambda: reporter.connected, "an answer")
        assert reporter.silent_seconds == 0.0
        clock.advance(3.0)
        assert reporter.silent_seconds == 3.0
        await reporter.close()


async def test_what_is_not_a_report_is_refused_and_large_ones_are_parsed(
    pki: Pki, serving: Serving, leader: Leader, report: MakeReport
) -> None:
    many = {FunctionId("team-a", f"f{number}"): Demand(0, 0, 1, 1.0) for number in range(5000)}
    async with serving(leader.app, pki.server()) as url, aiohttp.ClientSession() as session:
        for body, said in [(b'{"sequence": 1}', "Field required"), (b" " * (33 * 2**20), "a report of more than")]:
            async with session.post(url + REPORT_PATH, data=io.BytesIO(body), ssl=pki.client()()) as response:
                assert response.status == 400
                assert said in (await response.json())["error"]
        data = encode_report(report(demands=many))
        async with session.post(url + REPORT_PATH, data=data, ssl=pki.client()()) as response:
            assert not decode_answer(await response.read()).resync
    assert leader.hub.demand() == many


async def test_a_leader_takes_the_reports_of_newer_activators(
    pki: Pki, serving: Serving, leader: Leader, report: MakeReport
) -> None:
    sent = json.loads(encode_report(report(version=VERSION + 1, demands={CHAT: Demand(1, 0, 1, 1.0)})))
    body = json.dumps({**sent, "new": True}).encode()
    async with (
        serving(leader.app, pki.server()) as url,
        aiohttp.ClientSession() as session,
        session.post(url + REPORT_PATH, data=body, ssl=pki.client()()) as response,
    ):
        assert decode_answer(await response.read()).version == VERSION
    assert leader.hub.demand()[CHAT].queued == 1
