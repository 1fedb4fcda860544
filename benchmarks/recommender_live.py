"""Does the in-flight cap follow a machine that changes under load, and for how long is a promise broken meanwhile?

One `pilotlight up`, one function on the simulated engine with `slo: {itl: 60ms, ttft: 2s}`, and clients in a closed
loop, each with one stream at a time. Then, one after the other, while the load goes on:

- throttle: every engine becomes slower by a factor (SIGUSR1), those that start later as soon as they are seen;
- recover: it ends;
- longer: prompts become seventeen times as long, so that a step of the engine takes longer for each stream.

Everything is seen from outside. Latencies are the clients': a window of five seconds breaks the promise where the mean
time between tokens, or the mean time to the first token (the wait for a slot included), of what came in it is above.
Caps are those of `pilotlight get decisions`; a cap has followed from the last change by which it came within a quarter
of where the phase ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

import harness

NAME = "live"
ITL, TTFT = 0.06, 2.0
LIMIT = 64
CLIENTS = 36
TOKENS = 100
SHORT, LONG = 40, 700
THROTTLE = 1.8
WINDOW = 5.0
FOLLOWS, BREAKS = 30.0, 60.0
PHASES = {"steady": 60.0, "throttle": 90.0, "recover": 150.0, "longer": 90.0}
QUICK = {"steady": 40.0, "throttle": 60.0, "recover": 110.0, "longer": 60.0}
MANIFEST = f"""\
apiVersion: pilotlight.dev/v1alpha1
kind: Function
metadata: {{name: {NAME}}}
spec:
  model: s3://models/simulated
  slo: {{itl: {ITL * 1000:.0f}ms, ttft: {TTFT:.0f}s}}
  scale: {{max: 4, keepAlive: 1h}}
  engine:
    kind: simulated
    maxNumSeqs: {LIMIT}
    maxModelLen: 16384
    enablePrefixCaching: false
    simulated:
      decodeBaseSeconds: 0.02
      decodeStreamSeconds: 0.0005
      decodeTokenSeconds: 0.000001
      throttle: {THROTTLE}
      jitter: 0.05
"""


@dataclass
class Seen:
    """What the clients saw; Unix times with seconds."""

    gaps: list[tuple[float, float]] = field(default_factory=list)
    firsts: list[tuple[float, float]] = field(default_factory=list)
    prompts: list[tuple[float, int]] = field(default_factory=list)
    failed: int = 0
    ended: int = 0


@dataclass
class Load:
    """The clients, and what they send from now on."""

    words: int = SHORT
    over: bool = False
    seen: Seen = field(default_factory=Seen)


@dataclass(frozen=True)
class Window:
    """Five seconds, from `at`."""

    at: float
    itl: float
    ttft: float

    @property
    def broken(self) -> bool:
        return self.itl > ITL or self.ttft > TTFT


@dataclass(frozen=True)
class Phase:
    """One part of the run."""

    name: str
    begin: float
    seconds: float
    prompt: float
    """Mean tokens, as the engine counted them."""
    cap_before: int
    cap: int
    followed: float
    """Seconds until the cap was within a quarter of `cap`, for good."""
    broken: float
    """Seconds of all windows that broke the promise."""
    longest: float
    """... and of the longest row of them."""
    itl: float
    """Mean of the second half."""

    def line(self) -> str:
        return (
            f"{self.name}: prompts of {self.prompt:.0f} tokens, cap {self.cap_before} -> {self.cap} after"
            f" {self.followed:.0f} s, ITL {1000 * self.itl:.0f} ms in the second half, promise broken for"
            f" {self.broken:.0f} s, {self.longest:.0f} s in a row"
        )


def main() -> None:
    options = harness.arguments(__doc__.splitlines()[0])
    facts = harness.machine()
    print("machine: " + ", ".join(f"{name} {value}" for name, value in facts.items()), flush=True)
    with harness.platform_up() as platform:
        platform.deploy(MANIFEST)
        begun, load = asyncio.run(run(platform, QUICK if options.quick else PHASES))
        decisions = json.loads(platform.run("get", "decisions", "--function", NAME, "--limit", "1000", "--json"))
        proposed = json.loads(platform.run("get", "recommendations", "--json"))
    changes = caps(decisions)
    phases = [judged(name, *span, load.seen, changes) for name, span in begun.items()]
    for phase in phases:
        print(phase.line())
    for each in proposed:
        print(f"recommended: {each['option']} {each['now']} -> {each['proposed']}: {each['reason']}")
    print(f"requests: {load.seen.ended} ended, {load.seen.failed} failed; {len(changes)} changes of the cap")
    results = {"machine": facts, "phases": [asdict(phase) for phase in phases], "caps": changes}
    harness.report({**results, "windows": [asdict(each) for each in windows(load.seen)]}, bars(phases), options.json)


def bars(phases: Sequence[Phase]) -> list[harness.Bar]:
    changed = [phase for phase in phases if phase.name in ("throttle", "longer")]
    made = []
    for phase in changed:
        fell, followed = phase.cap < phase.cap_before, phase.followed
        figure = f"{phase.cap_before} to {phase.cap} in {followed:.0f} s"
        asked = f"lower within {FOLLOWS:.0f} s"
        made.append(harness.Bar("recommender_live", f"cap, {phase.name}", figure, asked, fell and followed <= FOLLOWS))
        row = f"{phase.longest:.0f} s in a row, {phase.broken:.0f} s in all"
        asked = f"at most {BREAKS:.0f} s"
        made.append(harness.Bar("recommender_live", f"broken, {phase.name}", row, asked, phase.broken <= BREAKS))
    return made


async def run(platform: harness.Platform, phases: Mapping[str, float]) -> tuple[dict[str, tuple[float, float]], Load]:
    """(begin, seconds) of each phase, and what was seen."""
    load, begun, throttled = Load(), {}, set[int]()
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"authorization": f"Bearer {platform.key}"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        clients = [asyncio.create_task(client(session, platform.url, load, number)) for number in range(CLIENTS)]
        for name, seconds in phases.items():
            begun[name] = time.time(), seconds
            load.words = LONG if name == "longer" else SHORT
            until = time.time() + seconds
            while time.time() < until:
                throttle(platform, throttled, wanted=name == "throttle")
                await asyncio.sleep(0.5)
        load.over = True
        await asyncio.gather(*clients)
    return begun, load


def throttle(platform: harness.Platform, throttled: set[int], *, wanted: bool) -> None:
    """Signal the engines that are not as they should be; `throttled` are the processes that are slow."""
    for pid in engines(platform):
        if (pid in throttled) != wanted:
            os.kill(pid, signal.SIGUSR1)
            (throttled.add if wanted else throttled.remove)(pid)


def engines(platform: harness.Platform) -> list[int]:
    """Those that serve: one that is not so far has no handler for the signal, which would end it."""
    found = [child for each in harness.supervisors(platform.state) for child in each.children(recursive=True)]
    return [child.pid for child in found if catches(child.pid)]


def catches(pid: int) -> bool:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    [mask] = [line.split()[1] for line in lines if line.startswith("SigCgt:")]
    return bool(int(mask, 16) >> (signal.SIGUSR1 - 1) & 1)


async def client(session: aiohttp.ClientSession, url: str, load: Load, number: int) -> None:
    await asyncio.sleep(number * 0.05)
    turn = 0
    while not load.over:
        turn += 1
        prompt = f"{number} {turn} " + "word " * load.words
        body = {"model": NAME, "prompt": prompt, "max_tokens": TOKENS, "stream": True, "ignore_eos": True}
        try:
            await stream(session, url, {**body, "stream_options": {"include_usage": True}}, load.seen)
        except (aiohttp.ClientError, TimeoutError):
            load.seen.failed += 1
            await asyncio.sleep(0.5)


async def stream(session: aiohttp.ClientSession, url: str, body: Mapping[str, object], seen: Seen) -> None:
    begin, last = time.time(), 0.0
    async with session.post(f"{url}/v1/completions", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.content:
            if not line.startswith(b"data: {"):
                continue
            event: dict[str, Any] = json.loads(line[6:])
            now = time.time()
            if usage := event.get("usage"):
                seen.prompts.append((now, usage["prompt_tokens"]))
            if not event.get("choices"):
                continue
            if last:
                seen.gaps.append((now, now - last))
            else:
                seen.firsts.append((now, now - begin))
            last = now
    seen.ended += 1


def caps(decisions: Iterable[Mapping[str, Any]]) -> list[tuple[float, int]]:
    """(Unix time, cap) of every change, oldest first."""
    found = [(each["at"], each["inputs"]["decided"]) for each in decisions if "decided" in each["inputs"]]
    return sorted(found)


def cap_at(changes: Sequence[tuple[float, int]], at: float) -> int:
    return next((cap for moment, cap in reversed(changes) if moment <= at), LIMIT)


def judged(name: str, begin: float, seconds: float, seen: Seen, changes: Sequence[tuple[float, int]]) -> Phase:
    end = begin + seconds
    mine = [each for each in windows(seen) if begin <= each.at < end]
    final = cap_at(changes, end)
    inside = [(at, cap) for at, cap in changes if begin < at <= end]
    far = [at for at, cap in [(begin, cap_at(changes, begin)), *inside] if not 0.75 * final <= cap <= 1.25 * final]
    near = [at for at, _ in inside if not far or at > far[-1]]
    half = [gap for at, gap in seen.gaps if begin + seconds / 2 <= at < end]
    return Phase(
        name=name,
        begin=begin,
        seconds=seconds,
        prompt=statistics.fmean([tokens for at, tokens in seen.prompts if begin + seconds / 2 <= at < end]),
        cap_before=cap_at(changes, begin),
        cap=final,
        followed=near[0] - begin if far and near else 0.0,
        broken=WINDOW * sum(each.broken for each in mine),
        longest=WINDOW * longest(mine),
        itl=statistics.fmean(half),
    )


def windows(seen: Seen) -> list[Window]:
    """Of the whole run, without those in which nothing came."""
    start = seen.firsts[0][0]
    gaps, firsts = in_windows(seen.gaps, start), in_windows(seen.firsts, start)
    return [
        Window(start + number * WINDOW, statistics.fmean(gaps[number]), statistics.fmean(firsts.get(number, [0.0])))
        for number in sorted(gaps)
    ]


def in_windows(values: Iterable[tuple[float, float]], start: float) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for at, value in values:
        found.setdefault(int((at - start) // WINDOW), []).append(value)
    return found


def longest(found: Iterable[Window]) -> int:
    best = row = 0
    for each in found:
        row = row + 1 if each.broken else 0
        best = max(best, row)
    return best


if __name__ == "__main__":
    main()
