"""The simulation itself: a clock, a heap of events, and what each of them does.

Two runs with the same arrivals, policy, scenario and seed give the same outcome.
"""

from __future__ import annotations

from array import array
from heapq import heappop, heappush
from math import exp, inf
from random import Random

from pilotlight.platform.simulate.arrivals.values import Arrivals
from pilotlight.platform.simulate.errors import SimulationRefused
from pilotlight.platform.simulate.fleet import Fleet
from pilotlight.platform.simulate.measuring import ClassTally, Outcome, Tally, outcome
from pilotlight.platform.simulate.policies.catalogue import Named
from pilotlight.platform.simulate.policies.values import NOTHING, Future, Setting
from pilotlight.platform.simulate.replica import Replica
from pilotlight.platform.simulate.scenario import CLASSES, Scenario
from pilotlight.platform.simulate.site import Site

MOST_REQUESTS = 100_000_000

Event = tuple[float, int, Site | Replica]
"""When, in which order, and whose: a site's look, a replica's readiness or its next end."""


def simulate(arrivals: Arrivals, policy: Named, setting: Setting) -> Outcome:
    """One policy on one trace. Raises SimulationRefused."""
    return Simulation(arrivals, policy, setting).run()


class Simulation:
    """One run."""

    def __init__(self, arrivals: Arrivals, policy: Named, setting: Setting) -> None:
        scenario = setting.scenario
        self._arrivals, self._policy, self._setting = arrivals, policy, setting
        self._slots = scenario.slots
        self._speed = scenario.speed
        self._gaps = [inf, *(scenario.speed.itl(batch) for batch in range(1, scenario.slots + 1))]
        self._start_seconds, self._spread = scenario.start_seconds, scenario.spread
        self._random = Random(scenario.seed)  # noqa: S311 - it scatters starts
        self._fleet = Fleet(scenario.fleet)
        self._tally = Tally({name: ClassTally(scenario.targets[name]) for name in CLASSES})
        self._sites: list[Site | None] = []
        self._futures: list[Future] = _futures(arrivals, scenario) if policy.clairvoyant else []
        self._events: list[Event] = []
        self._order = 0
        self._open = 0
        """Requests that have not ended."""

    def run(self) -> Outcome:
        events, requests, now = self._events, 0, 0.0
        for batch in self._arrivals.read():
            requests += len(batch)
            if requests > MOST_REQUESTS:
                raise SimulationRefused(f"more than {MOST_REQUESTS:,} requests; take a window or a share of them")
            self._make_sites()
            rows = zip(
                batch.times.tolist(),
                batch.functions.tolist(),
                batch.prompts.tolist(),
                batch.answers.tolist(),
                strict=True,
            )
            for now, place, prompt, answer in rows:
                while events and events[0][0] <= now:
                    self._happen(heappop(events))
                self._arrive(now, self._sites[place] or self._new_site(place, now), prompt, answer)
        if not requests:
            raise SimulationRefused("there are no requests")
        return self._finish(now)

    def _finish(self, now: float) -> Outcome:
        while self._open:
            event = heappop(self._events)
            now = event[0]
            self._happen(event)
        for site in self._sites:
            if site is not None:
                for replica in (*site.serving, *site.starts):
                    self._tally.ended(replica, now)
        return outcome(self._tally, now)

    # Sites

    def _make_sites(self) -> None:
        """Room for the functions that the next batch names; a site is made when its first request comes."""
        self._sites += [None] * (len(self._arrivals.names) - len(self._sites))

    def _new_site(self, place: int, now: float) -> Site:
        """What it has from the first is there since the trace began; on a fixed fleet, where others may have had that
        place, since its first call."""
        policy = self._policy.make(self._setting, self._futures[place] if self._futures else NOTHING)
        slo = self._arrivals.classes.get(self._arrivals.names[place], CLASSES[0])
        site = self._sites[place] = Site(policy, self._tally.classes[slo])
        since = 0.0 if self._fleet.size is None else now
        for _ in range(policy.initial):
            if not self._fleet.full:
                replica = Replica(site, since)
                replica.ready_at = since
                site.serving.append(replica)
                self._fleet.used += 1
                self._fleet.idles(replica)
        return site

    # Events

    def _at(self, when: float, subject: Site | Replica) -> None:
        self._order += 1
        heappush(self._events, (when, self._order, subject))

    def _happen(self, event: Event) -> None:
        """Events that something later has replaced are passed over."""
        now, _, subject = event
        if isinstance(subject, Site):
            if now == subject.due:
                self._look(now, subject)
        elif subject.gone:
            pass
        elif subject.ready_at is None:
            self._ready(now, subject)
        elif now == subject.due:
            self._end(now, subject)

    def _arrive(self, now: float, site: Site, prompt: int, answer: int) -> None:
        site.account(now)
        if not site.queued and not site.in_flight:
            site.policy.woken(now - site.last_active if site.last_active else inf)
        site.last_active = now
        site.evicted = False
        self._open += 1
        replica = None if site.queue else site.free(self._slots)
        if replica is not None:
            self._admit(now, replica, now, prompt, answer)
        else:
            site.queue.append((now, prompt, answer))
            site.queued += 1
            self._count_cold(site)
            if site.queued == 1 and (site.policy.eager or not (site.serving or site.starts)):
                self._look(now, site)
                return
        if site.queued + site.in_flight > site.quiet:
            self._look_soon(now, site)

    def _count_cold(self, site: Site) -> None:
        if not site.serving:
            self._tally.cold_requests += 1
            if not site.cold:
                site.cold = True
                self._tally.cold_starts += 1

    def _admit(self, now: float, replica: Replica, arrived: float, prompt: int, answer: int) -> None:
        site, batch = replica.site, len(replica.running) + 1
        if batch == 1:
            self._fleet.works(replica)
        replica.admit(now, self._gaps[batch], self._speed.ttft(prompt, batch), arrived, answer)
        site.in_flight += 1
        site.tally.waits.append(now - arrived)
        self._expect_end(replica)

    def _admit_next(self, now: float, site: Site, replica: Replica) -> None:
        site.queued -= 1
        self._admit(now, replica, *site.queue.popleft())

    def _expect_end(self, replica: Replica) -> None:
        """An end that got later keeps its event, which then finds out."""
        end = replica.next_end()
        if end < replica.due:
            replica.due = end
            self._at(end, replica)

    def _end(self, now: float, replica: Replica) -> None:
        replica.due = inf
        if replica.next_end() > now + 1e-9:
            self._expect_end(replica)
            return
        site = replica.site
        site.account(now)
        site.tally.ended(replica.end(now, self._gaps[len(replica.running) - 1]), now)
        site.in_flight -= 1
        site.last_active = now
        self._open -= 1
        if site.queue and not replica.draining:
            self._admit_next(now, site, replica)
        elif replica.running:
            self._expect_end(replica)
        elif replica.draining:
            self._gone(now, replica)
        else:
            self._fleet.idles(replica)
        if site.quiet < 0:
            self._look_soon(now, site)
        elif not site.queued and not site.in_flight:
            self._look_by(now + max(site.policy.idle, site.policy.period), site)
        self._place_waiting(now)

    def _ready(self, now: float, replica: Replica) -> None:
        site = replica.site
        site.account(now)
        site.starts.remove(replica)
        site.serving.append(replica)
        site.cold = False
        replica.ready_at = site.ready_at = now
        while site.queue and len(replica.running) < self._slots:
            self._admit_next(now, site, replica)
        if not replica.running:
            self._fleet.idles(replica)
        self._look_soon(now, site)
        self._place_waiting(now)

    # Scaling

    def _look_soon(self, now: float, site: Site) -> None:
        """At the policy's next tick, unless a look is due before."""
        self._look_by(max(now, site.looked_at + site.policy.period), site)

    def _look_by(self, when: float, site: Site) -> None:
        if when < site.due:
            site.due = when
            self._at(when, site)

    def _look(self, now: float, site: Site) -> None:
        wish = site.policy.look(site, now)
        site.looked_at, site.wanted, site.quiet = now, wish.desired, wish.quiet
        site.due = wish.again if wish.again > now else now + site.policy.period
        if site.due < inf:
            self._at(site.due, site)
        self._scale(now, site)
        self._place_waiting(now)

    def _scale(self, now: float, site: Site) -> None:
        """As many replicas as are wanted, as far as there are places."""
        while len(site.serving) + len(site.starts) > site.wanted:
            self._let_go(now, site.surplus())
        while len(site.serving) + len(site.starts) < site.wanted:
            if site.evicted:  # whoever made way asks for a place again when there is work
                return
            if not self._start(now, site):
                self._fleet.waiting[site] = None
                return

    def _start(self, now: float, site: Site) -> bool:
        fleet = self._fleet
        if fleet.full:
            victim = fleet.least_recently_used(site)
            if victim is None:
                return False
            victim.site.evicted = True
            self._tally.evictions += 1
            self._let_go(now, victim)
        replica = Replica(site, now)
        site.starts.append(replica)
        fleet.used += 1
        self._tally.starts += 1
        scatter = exp(self._random.gauss(0.0, self._spread)) if self._spread else 1.0
        self._at(now + self._start_seconds * scatter, replica)
        return True

    def _let_go(self, now: float, replica: Replica) -> None:
        """A start is broken off, an idle replica goes, and one that serves takes nothing new."""
        site = replica.site
        (site.starts if replica.ready_at is None else site.serving).remove(replica)
        if replica.running:
            replica.draining = True
        else:
            self._gone(now, replica)

    def _gone(self, now: float, replica: Replica) -> None:
        replica.gone = True
        self._tally.ended(replica, now)
        self._fleet.works(replica)
        self._fleet.used -= 1

    def _place_waiting(self, now: float) -> None:
        """Whoever waits for a place looks for one again."""
        fleet = self._fleet
        if fleet.waiting:
            waiting, fleet.waiting = fleet.waiting, {}
            for site in waiting:
                self._scale(now, site)


def _futures(arrivals: Arrivals, scenario: Scenario) -> list[Future]:
    """All requests by function, each with its time on a full replica."""
    gap, ttft, slots = scenario.speed.itl(scenario.slots), scenario.speed.ttft, scenario.slots
    futures: list[tuple[array[float], array[float]]] = []
    for batch in arrivals.read():
        futures += [(array("d"), array("d")) for _ in range(len(arrivals.names) - len(futures))]
        rows = zip(
            batch.times.tolist(), batch.functions.tolist(), batch.prompts.tolist(), batch.answers.tolist(), strict=True
        )
        for time, place, prompt, answer in rows:
            times, seconds = futures[place]
            times.append(time)
            seconds.append(ttft(prompt, slots) + (answer - 1) * gap)
    return [Future(times, seconds) for times, seconds in futures]
