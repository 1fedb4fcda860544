"""The recommender's choice against an exhaustive search, with the real engine on this machine's processors.

The search starts SmolLM2-135M-Instruct with every pair of `max_num_seqs` and `max_num_batched_tokens`, and keeps
`max_num_seqs` requests in flight. Goodput is requests per second that end within both bounds of latency, counted when
all requests in flight were sent at the full load. Two SLOs are multiples of what a lone request takes here, and both
are judged by the same runs. The recommender sees none of it: without calibration it has the configuration, the first
bytes of the weights and a short probe of the processors; with it, what `calibrate` measures. Then the search's
winner and both recommendations are started side by side and measured anew, in turns, one load at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from harness import Bar, arguments, machine, report
from pilotlight.activator.values import Replica
from pilotlight.platform.calibration import engine, injector
from pilotlight.platform.calibration.engine import EngineSetup
from pilotlight.platform.calibration.injector import ClosedLoop, Requests, Stream
from pilotlight.platform.cli.calibrating import Calibrations, Known, Question
from pilotlight.platform.demo.model import convert_smollm2
from pilotlight.platform.embedded.machine import look
from pilotlight.recommender import Accelerator, Constraints, Slo, SloUnreachable, Workload, read_folder, recommend
from pilotlight.recommender.files import fingerprint
from pilotlight.recommender.probing import probe_cpu

PROMPT, ANSWER = 64, 24
WORKLOAD = Workload.usual(PROMPT, ANSWER)
SLOTS, STEPS = (1, 2, 4, 8, 16, 32), (64, 128, 512, 2048)
QUICK_SLOTS, QUICK_STEPS = (1, 4, 16), (2048,)
TIMES = {"strict": (3.0, 2.0), "loose": (8.0, 4.0)}
"""TTFT and ITL of each SLO, in units of a lone request's."""
START_SECONDS, PATIENCE_SECONDS = 300.0, 600.0
"""Longest start, and longest wait for a window's end."""
CALIBRATION_SECONDS = 180.0
FIXED = {"dtype": "float32", "enforce_eager": True, "max_model_len": 512, "kv_cache_memory_bytes": 2**30}
TENTH = 0.1
LEAST = 4
"""Requests, whatever the time, without which nothing is known."""


@dataclass(frozen=True)
class Config:
    """One engine, and how many requests are kept in flight."""

    slots: int
    step: int
    load: int

    @property
    def options(self) -> dict[str, object]:
        return FIXED | {"max_num_seqs": self.slots, "max_num_batched_tokens": self.step}

    def __str__(self) -> str:
        return f"max_num_seqs {self.slots}, max_num_batched_tokens {self.step}, {self.load} in flight"


@dataclass(frozen=True)
class Run:
    """What the requests that ended in one window took."""

    seconds: float
    requests: tuple[tuple[float, float], ...]
    """TTFT and ITL of each, seconds."""

    def goodput(self, slo: Slo) -> float:
        """Requests per second within both bounds."""
        assert slo.ttft is not None
        assert slo.itl is not None
        return sum(ttft <= slo.ttft and itl <= slo.itl for ttft, itl in self.requests) / self.seconds


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    configs: tuple[Config, ...]
    seconds: float
    """Of each window."""
    slos: tuple[str, ...]
    turns: int


FULL = Plan(tuple(Config(slots, step, slots) for slots in SLOTS for step in STEPS), 30.0, ("strict", "loose"), 5)
QUICK = Plan(tuple(Config(slots, step, slots) for slots in QUICK_SLOTS for step in QUICK_STEPS), 8.0, ("loose",), 2)


@dataclass(frozen=True)
class Chosen:
    """The recommendations for one SLO; None: it was refused as out of reach."""

    calibrated: Config | None
    uncalibrated: Config | None

    def named(self) -> Iterator[tuple[str, Config | None, float]]:
        """With the share of the best goodput that is asked for."""
        yield "calibrated", self.calibrated, 0.95
        yield "uncalibrated", self.uncalibrated, 0.85


@dataclass
class Window:
    """Ends a loop so many seconds after the last of the requests that were sent while it filled up has ended.

    Or later, when as many as are in flight have ended, and no fewer than `LEAST`.
    """

    loop: ClosedLoop
    seconds: float
    least: int
    began: float = 0.0

    def over(self, _ended: int) -> bool:
        if not self.began and all(stream.loaded or stream.ended for stream in self.loop.streams):
            self.began = time.monotonic()
        return bool(self.began) and time.monotonic() - self.began >= self.seconds and len(self.ended()) >= self.least

    def ended(self) -> list[Stream]:
        return [stream for stream in self.loop.streams if stream.ended > self.began > 0]

    def run(self) -> Run:
        """Raises RuntimeError when nothing has ended."""
        if not self.ended():
            raise RuntimeError("no request ended: the machine is too busy to measure anything")
        return Run(self.loop.ended_at - self.began, tuple(map(_latencies, self.ended())))


def _latencies(stream: Stream) -> tuple[float, float]:
    itl = stream.sample().itl
    return stream.first - stream.sent, math.inf if itl is None else itl


class Bench:
    """One model and its engines."""

    def __init__(self, model: Path, state: Path, plan: Plan) -> None:
        self.model, self.state, self.plan = model, state, plan
        self.facts = read_folder(model)
        here = look()
        self.cpus, self.memory = here.cpus, here.memory_bytes
        self.requests = Requests(engine.NAME, PROMPT, ANSWER, self.facts.vocabulary)
        self._numbers = iter(range(0, 10**9, 10**5))

    def started(self, config: Config) -> contextlib.AbstractAsyncContextManager[Replica]:
        setup = EngineSetup(self.model, config.options, cpus=self.cpus)
        return engine.running(setup, self.state, START_SECONDS, lambda _: None)

    async def measure(self, replica: Replica, config: Config) -> Run:
        async with injector.opened() as upstream:
            loop = ClosedLoop(upstream, replica, self.requests, config.load, next(self._numbers))
            window = Window(loop, self.plan.seconds, max(LEAST, config.load))
            await loop.run(PATIENCE_SECONDS, window.over)
        return window.run()

    async def search(self) -> dict[Config, Run]:
        found = {}
        for config in self.plan.configs:
            async with self.started(config) as replica:
                found[config] = await self.measure(replica, config)
            say(f"{config}: {len(found[config].requests) / found[config].seconds:.2f} requests/s")
        return found

    async def recommend(self, slos: Mapping[str, Slo]) -> tuple[dict[str, Chosen], float]:
        """For each SLO, the widest first, and the seconds that all calibration took."""
        here, asked = Calibrations(self.state, None, CALIBRATION_SECONDS), Constraints()
        chosen, begin = {}, time.monotonic()
        cpu = probe_cpu(self.memory)
        for name, slo in sorted(slos.items(), key=lambda pair: -(pair[1].itl or 0.0)):
            question = Question(self.facts, fingerprint(self.model), self.model, slo, WORKLOAD, asked)
            known = await asyncio.to_thread(here.known, question, cpu)
            chosen[name] = Chosen(*(_recommended(question, cpu, found) for found in (known, None)))
        return chosen, time.monotonic() - begin

    async def turns(self, configs: Sequence[Config]) -> dict[Config, list[Run]]:
        """All side by side, one measured at a time."""
        runs: dict[Config, list[Run]] = {config: [] for config in configs}
        async with contextlib.AsyncExitStack() as stack:
            replicas = {config: await stack.enter_async_context(self.started(config)) for config in runs}
            for _ in range(self.plan.turns):
                for config, replica in replicas.items():
                    runs[config].append(await self.measure(replica, config))
        return runs


def _recommended(question: Question, cpu: Accelerator, known: Known | None) -> Config | None:
    performance = known.performance if known else None
    try:
        made = recommend(question.facts, cpu, performance, question.slo, question.workload, question.constraints)
    except SloUnreachable as error:
        say(str(error))
        return None
    names = ("max_num_seqs", "max_num_batched_tokens", "concurrency")
    return Config(*(int(made.number(name)) for name in names))


def slos_of(lone: Run, names: Iterable[str]) -> dict[str, Slo]:
    first, gap = (median(column) for column in zip(*lone.requests, strict=True))
    return {name: Slo(ttft=TIMES[name][0] * first, itl=TIMES[name][1] * gap) for name in names}


async def bench(plan: Plan, model: Path, state: Path) -> tuple[dict[str, object], list[Bar]]:
    bench = Bench(model, state, plan)
    begin = time.monotonic()
    found = await bench.search()
    search_seconds = time.monotonic() - begin
    slos = slos_of(next(run for config, run in found.items() if config.load == 1), plan.slos)
    chosen, seconds = await bench.recommend(slos)
    results: dict[str, object] = {}
    bars: list[Bar] = []
    for name, slo in slos.items():
        winner = max(found, key=lambda config: found[config].goodput(slo))
        say(f"{name} ({slo}): the search takes {winner}")
        for how, config, _ in chosen[name].named():
            say(f"{name}: {how}, the recommendation is {config or 'none'}")
        several = (winner, *(config for _, config, _ in chosen[name].named() if config is not None))
        runs = await bench.turns(tuple(dict.fromkeys(several)))
        goodput = {config: median(run.goodput(slo) for run in turns) for config, turns in runs.items()}
        for config, value in goodput.items():
            say(f"{name}: {config}: {value:.2f} requests/s within the bounds, median of {plan.turns}")
        results[name] = _result(slo, winner, chosen[name], found, runs)
        for how, config, asked in chosen[name].named():
            bars.append(_share(name, how, goodput[config] / goodput[winner] if config else 0.0, asked))
    whole = search_seconds / len(plan.configs) * len(FULL.configs)
    bars.append(_time(seconds, whole, len(plan.configs)))
    return {"search_seconds": search_seconds, "recommendation_seconds": seconds, "slos": results}, bars


def _result(
    slo: Slo, winner: Config, chosen: Chosen, found: Mapping[Config, Run], runs: Mapping[Config, Sequence[Run]]
) -> dict[str, object]:
    return {
        "slo": asdict(slo),
        "winner": str(winner),
        **{how: str(config) for how, config, _ in chosen.named()},
        "search": {str(config): run.goodput(slo) for config, run in found.items()},
        "turns": {str(config): [run.goodput(slo) for run in turns] for config, turns in runs.items()},
    }


def _share(name: str, how: str, share: float, asked: float) -> Bar:
    figure = f"{share:.0%} of the search's winner"
    return Bar("recommender_choice", f"{name} SLO, {how}", figure, f"at least {asked:.0%}", share >= asked)


def _time(seconds: float, whole: float, measured: int) -> Bar:
    scaled = "" if measured == len(FULL.configs) else f", from {measured} of them"
    figure = f"{seconds:.0f} s, {seconds / whole:.1%} of {whole:.0f} s for {len(FULL.configs)} configurations{scaled}"
    return Bar("recommender_choice", "time with calibration", figure, "at most 10%", seconds <= TENTH * whole)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    chosen = arguments(__doc__ or "")
    facts, plan = machine(), QUICK if chosen.quick else FULL
    print("machine: " + ", ".join(f"{key} {value}" for key, value in facts.items()))
    with tempfile.TemporaryDirectory(prefix="pilotlight-choice-") as folder:
        model = convert_smollm2(Path(folder) / "smollm2")
        results, bars = asyncio.run(bench(plan, model, Path(folder) / "state"))
    report({"machine": facts, **results}, bars, chosen.json)


if __name__ == "__main__":
    main()
