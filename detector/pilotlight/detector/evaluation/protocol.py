"""The evaluation: every method on the same series, thresholds from normal rows alone, several seeds, one report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, pstdev
from typing import Any

import numpy as np

from pilotlight.detector.alarming import Alarming, trailing_mean
from pilotlight.detector.evaluation.alarms import BUDGET, Outcome, best_rule, outcome
from pilotlight.detector.evaluation.baselines import BASELINES, Method, Scores
from pilotlight.detector.evaluation.learned import autoencoder_scores, detector_scores
from pilotlight.detector.evaluation.measures import auc_pr, judge, spans, vus_pr
from pilotlight.detector.evaluation.series import Series
from pilotlight.detector.model import LEAST_SCORE

SeriesMethod = Callable[[Sequence[Series], int], list[Scores]]
"""Scores of every entity from a seed; what learns from all entities at once sees them all."""

OURS = "pilotlight"
SMOOTHED = (OURS, "mlp_ae")
"""What is ranked after the detector's smoothing; the others look at one row at a time."""


@dataclass(frozen=True)
class Run:
    """One method with one seed."""

    alarms: Outcome
    same_alarms: Outcome
    """With the detector's own alarms instead of the best fixed rule."""
    vus_pr: float
    auc_pr: float


def evaluate(
    series: Sequence[Series], minutes_per_row: float, seeds: int, told: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """The whole report, as JSON has it.

    Args:
        series: The entities.
        minutes_per_row: Of their sampling; days and hours are counted by it.
        seeds: How many, from 0; figures are means over them.
        told: Called with the name of each method that is done.

    `methods` has every method; `pilotlight` with its own alarms, which no result chose, and all others with the best
    of many fixed rules. `same_alarms` has them all with the detector's alarms, so that it shows what the scores add.
    """
    methods: dict[str, list[Run]] = {}
    for name, method in METHODS.items():
        methods[name] = [_run(name, method(series, seed), series, minutes_per_row) for seed in range(seeds)]
        told(name)
    return {
        "entities": len(series),
        "events": sum(len(spans(one.labels)) for one in series),
        "days": sum(len(one.labels) for one in series) * minutes_per_row / 1440,
        "seeds": seeds,
        "minutes_per_row": minutes_per_row,
        "budget": BUDGET,
        "methods": {name: summary(runs, [run.alarms for run in runs]) for name, runs in methods.items()},
        "same_alarms": {name: summary(runs, [run.same_alarms for run in runs]) for name, runs in methods.items()},
    }


def summary(runs: Sequence[Run], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Means over the seeds, and the spread of recall."""
    delays = [one.delay for one in outcomes if one.delay is not None]
    return {
        "event_recall": fmean(one.recall for one in outcomes),
        "event_recall_std": pstdev(one.recall for one in outcomes),
        "false_alarms_per_day": fmean(one.false_alarms for one in outcomes),
        "false_runs_per_day": fmean(one.false_runs for one in outcomes),
        "delay_windows": median(delays) if delays else None,
        "vus_pr": fmean(run.vus_pr for run in runs),
        "auc_pr": fmean(run.auc_pr for run in runs),
        "rules": sorted({one.rule for one in outcomes}),
    }


def _run(name: str, scores: Sequence[Scores], series: Sequence[Series], minutes_per_row: float) -> Run:
    labels = [one.labels for one in series]
    ranked = [_smoothed(one) for one in scores] if name in SMOOTHED else scores
    own = own_alarms(scores, series, minutes_per_row)
    return Run(
        alarms=own if name == OURS else best_rule(ranked, labels, minutes_per_row),
        same_alarms=own,
        vus_pr=_mean([vus_pr(one.test, known) for one, known in zip(ranked, labels, strict=True)]),
        auc_pr=_mean([auc_pr(one.test, known) for one, known in zip(ranked, labels, strict=True)]),
    )


def own_alarms(scores: Sequence[Scores], series: Sequence[Series], minutes_per_row: float) -> Outcome:
    """The detector's alarms on any scores: of their logarithm, with the level from the normal rows."""
    alarming = Alarming(minutes_per_row)
    judged = []
    for one, entity in zip(scores, series, strict=True):
        logs = np.log(np.concatenate((one.train, one.test)) + LEAST_SCORE)
        excess = alarming.excess(logs, float(np.median(logs[: len(one.train)])))
        level = alarming.level(excess[: len(one.train)])
        judged.append(judge(excess[len(one.train) :] > level, entity.labels, 60 / minutes_per_row))
    days = sum(len(one.labels) for one in series) * minutes_per_row / 1440
    return outcome(judged, days, "own")


def _smoothed(scores: Scores) -> Scores:
    rows = Alarming(1).smoothing
    return Scores(*(trailing_mean(np.log(one + LEAST_SCORE), rows) for one in scores))


def _mean(values: Sequence[float]) -> float:
    """Over the entities that have labels."""
    return fmean(value for value in values if not np.isnan(value))


def _each(method: Method) -> SeriesMethod:
    def scores(series: Sequence[Series], seed: int) -> list[Scores]:
        return [method(one.train, one.test, np.random.default_rng(seed)) for one in series]

    return scores


METHODS: Mapping[str, SeriesMethod] = {
    OURS: detector_scores,
    **{name: _each(method) for name, method in BASELINES.items()},
    "mlp_ae": autoencoder_scores,
}
