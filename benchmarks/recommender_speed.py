"""How well the recommender knows an engine's speed: `python benchmarks/recommender_speed.py --data CSV`.

The data are public measurements of vLLM, with the columns that `pilotlight recommend evaluate` asks for; without a file
the benchmark says so and ends. The method is that command's (docs/recommender.md). Two things are added:

- The roofline's seven rates were fitted to these data. They are fitted again without each model in turn, from rates
  that owe them nothing, and each model is predicted with the rates that have not seen it, from one point.
- What one recommendation costs in processor time: everything from the configuration of a model to every figure, once
  with fits of eight points, once with nothing measured and every number of accelerators tried.

`--quick` leaves the first out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from harness import Bar, machine, report
from pilotlight.recommender import (
    Constraints,
    Observation,
    Slo,
    Workload,
    config_facts,
    fitted,
    recommend,
    roofline,
    setup_for,
)
from pilotlight.recommender.accelerators import builtin
from pilotlight.recommender.evaluation import LEAST_BATCHES, evaluate
from pilotlight.recommender.measurements import Measurement, groups, read_measurements, setup_of
from pilotlight.recommender.roofline import Rates, Setup
from pilotlight.recommender.shape import known_configs

BESIDE = Path(__file__).parents[2] / "shared" / "data" / "sizing" / "vllm_measured.csv"
Vector = NDArray[np.float64]
# Where the search of each fit starts: round shares of the datasheet's rates, and nothing known of experts.
PLAIN = Rates(0.8, 0.8, 0.6, layer=20e-6, expert_layer=20e-6, collective=5e-6, spread=1.0)
FITTED = ("bandwidth", "attention_bandwidth", "arithmetic", "layer", "expert_layer", "collective", "spread")
FINEST = 0.06  # steps of the search, as a share of each rate


class Refit:
    """The roofline's rates from the rows of some models."""

    def __init__(self, rows: Sequence[Measurement]) -> None:
        known = [(row, setup) for row in rows if (setup := setup_of(row, builtin()))]
        self._setups: list[Setup] = [setup for _, setup in known]
        self._batches = [row.batch for row, _ in known]
        self._measured = np.log([row.itl for row, _ in known])
        self.models = np.array([row.setting("model_path") for row, _ in known])
        places = {id(row): place for place, (row, _) in enumerate(known)}
        pairs = [
            (places[id(one)], places[id(other)])
            for group in groups((row for row, _ in known), LEAST_BATCHES)
            for one in group
            for other in group
            if one.batch != other.batch
        ]
        self.seen, self.asked = (np.array(side) for side in zip(*pairs, strict=True))

    def one_point(self, rates: Rates) -> Vector:
        """The relative error of each pair: the curve through one row, read at the other."""
        misses = self._misses(rates)
        return np.asarray(np.abs(np.expm1(misses[self.asked] - misses[self.seen])))

    def without(self, model: str) -> Rates:
        """Coordinate descent on the error from one point, and a little on that from none."""
        kept = self.models != model
        rates, step = PLAIN, 0.5
        best = self._loss(rates, kept)
        while step > FINEST:
            before = best
            for name in FITTED:
                for factor in (1 + step, 1 / (1 + step)):
                    tried = replace(rates, **{name: getattr(rates, name) * factor})
                    if (loss := self._loss(tried, kept)) < best:
                        rates, best = tried, loss
            step = step if best < before - 1e-5 else step / 2
        return rates

    def _loss(self, rates: Rates, kept: NDArray[np.bool_]) -> float:
        misses = self._misses(rates)
        pairs = (misses[self.asked] - misses[self.seen])[kept[self.seen]]
        return float(np.mean(np.hypot(pairs, 0.02)) + 0.3 * np.mean(np.abs(misses[kept])))

    def _misses(self, rates: Rates) -> Vector:
        both = zip(self._setups, self._batches, strict=True)
        expected = [roofline.itl(replace(setup, rates=rates), batch) for setup, batch in both]
        return np.asarray(np.log(expected) - self._measured)


def left_out_models(rows: Sequence[Measurement]) -> dict[str, object]:
    refit = Refit(rows)
    errors, by_model = [], {}
    for model in sorted(set(refit.models)):
        there = refit.models[refit.seen] == model
        if there.any():
            missed = refit.one_point(refit.without(model))[there]
            errors += list(missed)
            by_model[str(model)] = {
                "fitted_with": float(np.median(refit.one_point(Rates())[there])),
                "left_out": float(np.median(missed)),
            }
            print(f"{model}: {by_model[str(model)]['left_out']:.1%} left out of the fit", flush=True)
    return {"median_error": float(np.median(errors)), "by_model": by_model}


def recommendation_seconds(runs: int = 20) -> float:
    """Processor time of a whole recommendation: the median, of the dearer of a measured and an unmeasured one."""
    config, device = known_configs()["Qwen/Qwen3-32B"], builtin().find("h100")
    slo, workload = Slo(ttft=2.0, itl=0.05), Workload.usual(1024, 512, rate=10)
    two = Constraints(tensor_parallel=2)
    seen = [Observation(b, 1024, 0.01 + 0.0002 * b, 0.05 + 0.002 * b) for b in (1, 2, 4, 8, 16, 32, 64, 128)]

    def measured() -> None:
        facts = config_facts(config)
        recommend(facts, device, fitted(seen, setup_for(facts, device, workload, two)), slo, workload, two)

    def unmeasured() -> None:
        recommend(config_facts(config), device, None, slo, workload)

    return max(_median_seconds(measured, runs), _median_seconds(unmeasured, runs))


def _median_seconds(work: Callable[[], None], runs: int) -> float:
    seconds = []
    for _ in range(runs):
        begin = time.process_time()
        work()
        seconds.append(time.process_time() - begin)
    return median(seconds)


def bars(found: Mapping[str, Any], left_out: Mapping[str, Any] | None, seconds: float) -> list[Bar]:
    itl, one, tables = found["itl"], found["one_point"], found["one_point"]["with_aiconfigurator"]
    coverage, rank = itl["coverage95"], found["rank"]["spearman_median"]
    line = found["linear_baseline"]
    made = [
        _at_most("ITL median", itl["median_error"], 0.03),
        _at_most("ITL mean", itl["mean_error"], 0.055),
        Bar("recommender_speed", "ITL in 95 % intervals", f"{coverage:.1%}", "90-98 %", 0.90 <= coverage <= 0.98),
        _at_most("ITL end points median", itl["ends"]["median_error"], None),
        _at_most("ITL straight line median", line["itl"]["median_error"], None),
        _at_most("TTFT median", found["ttft"]["median_error"], 0.12),
        _at_most("TTFT straight line median", line["ttft"]["median_error"], None),
        _at_most("ITL from one point median", one["median_error"], 0.08),
    ]
    if tables["installed"]:
        made.append(_at_most("ITL from one point median, with tables", tables["median_error"], 0.08))
    if left_out is not None:
        made.append(_at_most("ITL from one point median, models left out", left_out["median_error"], 0.08))
    made.append(Bar("recommender_speed", "rank correlation", f"{rank:.3f}", "at least 0.95", rank >= 0.95))
    made.append(
        Bar(
            "recommender_speed",
            "processor time of a recommendation",
            f"{seconds:.4f} s",
            "at most 0.02 s",
            seconds <= 0.02,
        )
    )
    return made


def _at_most(name: str, error: float, most: float | None) -> Bar:
    asked = "reported" if most is None else f"at most {most * 100:g} %"
    return Bar("recommender_speed", name, f"{error:.1%}", asked, most is None or error <= most)


def main() -> None:
    parser = argparse.ArgumentParser(description="How well the recommender knows an engine's speed.")
    parser.add_argument("--quick", action="store_true", help="do not fit the rates again without each model")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--data", type=Path, default=BESIDE, metavar="CSV", help="public measurements")
    options = parser.parse_args()
    if not options.data.exists():
        print(f"recommender_speed: skipped, there is no {options.data.name}; name a file with --data")
        return
    facts = machine()
    rows = read_measurements(options.data)
    found = cast("Mapping[str, Any]", evaluate(rows, builtin()))
    if not found["one_point"]["with_aiconfigurator"]["installed"]:
        print("aiconfigurator-core is not installed: no figure with its tables")
    left_out = None if options.quick else left_out_models(rows)
    seconds = recommendation_seconds()
    whole = {"machine": facts, "evaluation": found, "left_out_models": left_out, "seconds": seconds}
    report(whole, bars(found, left_out, seconds), options.json)


if __name__ == "__main__":
    main()
