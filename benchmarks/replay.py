"""Scaling policies replayed on public traces: `python benchmarks/replay.py --data FOLDER`.

The folder has `servegen/m-small-traces.tar.xz` and `m-mid`, their `-datasets`, `azure_llm_2023`, `azure_functions_2019`
and `vidur`; without it the benchmark says so and ends. Replays:

- `low`: ServeGen's clients below 0.2 requests a second, 14 days, about 3 million requests;
- `heavy`: the other clients for two hours, thinned to a million requests;
- `azure-llm`: an hour of one service;
- `azure-functions`: a day of functions with fewer than 20,000 calls, about 1.5 million.

Every policy's own knob is swept (docs/simulator.md says what it is). Curves are compared at equal replica-seconds: of
each policy its best points (no other of its own is both cheaper and better) are joined by straight lines over the
logarithm of the cost. The other's points are compared whose costs are not outside of ours; how many they are is told,
and none is no success.

`--quick` takes three days of `low`'s small model and a hundredth of `heavy`, one in twenty functions of
`azure-functions`, and of each sweep but ours every other knob. `--chart FILE` draws the sweeps.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import numpy as np

from harness import Bar, machine, report
from pilotlight.platform.simulate.arrivals.densities import read_densities
from pilotlight.platform.simulate.arrivals.lengths import read_lengths
from pilotlight.platform.simulate.arrivals.minutes import azure_functions
from pilotlight.platform.simulate.arrivals.servegen import servegen
from pilotlight.platform.simulate.arrivals.tables import azure_llm
from pilotlight.platform.simulate.arrivals.values import Arrivals, beside, between, thinned
from pilotlight.platform.simulate.chart import check
from pilotlight.platform.simulate.policies.catalogue import find
from pilotlight.platform.simulate.policies.values import Setting
from pilotlight.platform.simulate.report import figures
from pilotlight.platform.simulate.scenario import Scenario
from pilotlight.platform.simulate.simulation import simulate
from replaychart import draw

BESIDE = Path(__file__).parents[2] / "shared" / "data" / "traces"
LOW_RATE = 0.2  # requests per second
FEW_CALLS = 20_000  # of a function in a day
HEAVY_BEGIN, HEAVY_SECONDS, HEAVY_REQUESTS = 9 * 86_400 + 14 * 3600.0, 7200.0, 1_000_000
SEED = 1
OURS, FIXED, ORACLE = "pilotlight-no-vae", "keepalive-5m", "oracle"
KEPT = (0.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0)
KNOBS: Mapping[str, Sequence[float]] = {
    OURS: (1, 40, 80, 120, 160, 240, 400, 800, 1600, 3200, 9600),
    FIXED: KEPT,
    "kpa": KEPT,
    "kpa-tuned": KEPT,
    "kubeai": (60, 300, 600, 1200, 3600),
    "enova-public": (60, 180, 600),
    "always-on": (1,),
    ORACLE: (0.5, 1, 3),
}


@dataclass(frozen=True)
class Point:
    """One policy with one knob."""

    knob: float
    cost: float
    """Replica-seconds."""
    attained: float
    cold: float
    """Cold starts per 1,000 requests."""


def traces(folder: Path, quick: bool) -> dict[str, Callable[[], Arrivals]]:
    def low() -> Arrivals:
        names = ("m-small",) if quick else ("m-small", "m-mid")
        parts = [_servegen(folder, name, lambda rate: rate < LOW_RATE, (0, inf)) for name in names]
        return between(parts[0], 0, 3 * 86_400) if quick else beside(parts)

    def heavy() -> Arrivals:
        span = (HEAVY_BEGIN, HEAVY_BEGIN + HEAVY_SECONDS)
        parts = [_servegen(folder, name, lambda rate: rate >= LOW_RATE, span) for name in ("m-small", "m-mid")]
        window = between(beside(parts), *span)
        wanted = HEAVY_REQUESTS / (100 if quick else 1)
        return thinned(window, min(1.0, wanted / sum(len(batch) for batch in window.read())), SEED)

    def functions() -> Arrivals:
        lengths = read_lengths(folder / "vidur" / "arxiv_summarization_lengths.csv.xz")
        whole = azure_functions(folder / "azure_functions_2019" / "1250_inv.csv.xz", lengths, SEED)
        return _rarely_called(whole, one_in=20 if quick else 1)

    return {
        "low": low,
        "heavy": heavy,
        "azure-llm": lambda: azure_llm(folder / "azure_llm_2023" / "AzureLLMInferenceTrace_conv.csv.xz"),
        "azure-functions": functions,
    }


def _servegen(folder: Path, model: str, keep: Callable[[float], bool], span: tuple[float, float]) -> Arrivals:
    lengths = read_densities(folder / "servegen" / f"{model}-datasets.tar.xz")
    file = folder / "servegen" / f"{model}-traces.tar.xz"
    return servegen(file, lengths, SEED, lambda client: keep(client.mean_rate), span)


def _rarely_called(arrivals: Arrivals, one_in: int) -> Arrivals:
    """Whole functions: thinned ones would be called as nobody calls."""
    calls = np.zeros(len(arrivals.names), dtype=np.int64)
    for batch in arrivals.read():
        calls += np.bincount(batch.functions, minlength=len(calls))
    rare = (calls < FEW_CALLS) & (np.arange(len(calls)) % one_in == 0)
    return replace(arrivals, read=lambda: (batch.where(rare[batch.functions]) for batch in arrivals.read()))


def _held(arrivals: Arrivals) -> Arrivals:
    """In memory, since it is read once per policy and knob."""
    batches = list(arrivals.read())
    return replace(arrivals, read=lambda: iter(batches))


def sweep(name: str, arrivals: Arrivals, quick: bool) -> tuple[list[dict[str, object]], dict[str, list[Point]], float]:
    """Every policy with every knob: rows for the file, points, and requests per minute of processor time, the least."""
    rows: list[dict[str, object]] = []
    points: dict[str, list[Point]] = {}
    slowest = inf
    for policy, knobs in KNOBS.items():
        for knob in knobs[:: 2 if quick and policy != OURS else 1]:
            begin = time.process_time()
            outcome = simulate(arrivals, find([policy])[0], Setting(Scenario(), knob))
            rate = outcome.requests / (time.process_time() - begin) * 60
            slowest = min(slowest, rate)
            counted = {"requests": outcome.requests, "requests_per_minute": rate}
            rows.append({"policy": policy, "knob": knob, **counted, **figures(outcome)})
            point = Point(knob, outcome.replica_seconds, outcome.slo_attainment, outcome.cold_per_1000)
            points.setdefault(policy, []).append(point)
            print(
                f"{name} {policy} {knob:g}: {outcome.requests} requests, {point.attained:.4f} in time, "
                f"{point.cold:.3f} cold per 1000, {point.cost / 3600:.1f} replica hours",
                flush=True,
            )
    return rows, points, slowest


def front(points: Sequence[Point], value: Callable[[Point], float]) -> list[tuple[float, float]]:
    """Logarithm of the cost and value of the points that none of the others beats in both; more is better."""
    best: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda point: (point.cost, -value(point))):
        if not best or value(point) > best[-1][1]:
            best.append((float(np.log(point.cost)), value(point)))
    return best


def gains(ours: Sequence[Point], theirs: Sequence[Point], value: Callable[[Point], float]) -> list[float]:
    """Ours less theirs at those of their costs that lie between ours."""
    mine = front(ours, value)
    costs, values = zip(*mine, strict=True)
    return [
        float(np.interp(cost, costs, values)) - other
        for cost, other in front(theirs, value)
        if costs[0] <= cost <= costs[-1]
    ]


def attained(point: Point) -> float:
    return point.attained


def warm(point: Point) -> float:
    return -point.cold


def bars(name: str, points: Mapping[str, list[Point]]) -> list[Bar]:
    made: list[Bar] = []
    for other in ("kpa", "kpa-tuned", "kubeai", "enova-public"):
        for what, value, unit in (("in time", attained, 100.0), ("cold starts per 1000", warm, 1.0)):
            made.append(_better(name, other, what, [unit * gain for gain in gains(points[OURS], points[other], value)]))
    fixed = [100 * gain for gain in gains(points[OURS], points[FIXED], attained)]
    worst, mean = (min(fixed), float(np.mean(fixed))) if fixed else (-inf, -inf)
    title = f"{name}, in time beside fixed keep-alives"
    made.append(Bar("replay", f"{title}, worst", f"{worst:+.2f} points", "at least -2", worst >= -2))
    made.append(Bar("replay", f"{title}, mean", f"{mean:+.3f} points", "above 0", mean > 0))
    bound = [100 * gain for gain in gains(points[OURS], points[ORACLE], attained)]
    told = f"{min(bound):+.2f} points" if bound else "never at an equal cost"
    made.append(Bar("replay", f"{name}, in time beside the oracle", told, "reported", True))
    return made


def _better(name: str, other: str, what: str, gained: list[float]) -> Bar:
    title, asked = f"{name}, {what} beside {other}", "better at every equal cost"
    if not gained:
        return Bar("replay", title, "never at an equal cost", asked, False)
    figure = f"{min(gained):+.3f} at worst, {float(np.mean(gained)):+.3f} on average, {len(gained)} costs"
    return Bar("replay", title, figure, asked, min(gained) > 0)


def main() -> None:
    parser = argparse.ArgumentParser(description="Scaling policies replayed on public traces.")
    parser.add_argument("--quick", action="store_true", help="small parts of the traces: under five minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw the results there, .svg or .png")
    parser.add_argument("--data", type=Path, default=BESIDE, metavar="FOLDER", help="the traces")
    parser.add_argument("--only", metavar="A,B", help="some of the replays")
    options = parser.parse_args()
    if options.chart:
        check(options.chart)
    if not options.data.exists():
        print(f"replay: skipped, there is no folder {options.data.name} of traces; name one with --data")
        return
    facts, results, made, slowest = machine(), {}, [], inf
    chosen = options.only.split(",") if options.only else None
    for name, opened in traces(options.data, options.quick).items():
        if chosen is None or name in chosen:
            rows, points, rate = sweep(name, _held(opened()), options.quick)
            results[name], slowest = rows, min(slowest, rate)
            made += bars(name, points)
    figure = f"{slowest / 1e6:.2f} million a minute"
    made.append(Bar("replay", "requests simulated, the slowest run", figure, "at least 1 million", slowest >= 1e6))
    report({"machine": facts, "quick": options.quick, "replays": results}, made, options.json)
    if options.chart:
        draw(results, options.chart)


if __name__ == "__main__":
    main()
