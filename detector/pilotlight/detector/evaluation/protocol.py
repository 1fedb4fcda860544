"""The evaluation: every method on the same series, thresholds from normal rows alone, several seeds, one report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median, pstdev
from typing import Any

import numpy as np

from pilotlight.detector.alarming import Alarming
from pilotlight.detector.evaluation.alarms import BUDGET, Outcome, best_rule, outcome
from pilotlight.detector.evaluation.baselines import BASELINES, SEEDLESS, Scores
from pilotlight.detector.evaluation.budget import cut, incidents, lessons
from pilotlight.detector.evaluation.learned import Surprises, autoencoder_scores, detector_scores, surprises_of
from pilotlight.detector.evaluation.measures import auc_pr, judge, spans, trailing_mean, vus_pr
from pilotlight.detector.evaluation.series import Series, SeriesRefused
from pilotlight.detector.model import LEAST_SCORE
from pilotlight.detector.persistence import Persistence

OURS, AUTOENCODER = "pilotlight", "mlp_ae"
NAMES = (OURS, *BASELINES, AUTOENCODER)


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
        told: Called with a word for each part that is done.

    `methods` has every method: `pilotlight` with its own alarms, which no result chose, and all others with the best of
    many fixed rules. `same_alarms` has them all with the detector's alarms, so that it shows what the scores add.
    `labels` has the detector and a logistic regression by number of labelled incidents; None when there is nothing left
    to judge after them, or when entities have different metrics, so that one teaches nothing about another.

    Raises SeriesRefused: no row of any entity is labelled.
    """
    if not any(one.labels.any() for one in series):
        raise SeriesRefused("no row of any test is labelled; there is nothing to find")
    bench = _Bench(series, minutes_per_row)
    surprises = [surprises_of(series, seed, minutes_per_row) for seed in range(seeds)]
    told("training")
    methods = {}
    for name in NAMES:
        methods[name] = [bench.run(name, seed, surprises) for seed in range(1 if name in SEEDLESS else seeds)]
        told(name)
    return {
        "entities": len(series),
        "events": sum(len(spans(one.labels)) for one in series),
        "days": bench.days,
        "seeds": seeds,
        "minutes_per_row": minutes_per_row,
        "budget": BUDGET,
        "methods": {name: summary(runs, [run.alarms for run in runs]) for name, runs in methods.items()},
        "same_alarms": {name: summary(runs, [run.same_alarms for run in runs]) for name, runs in methods.items()},
        "labels": bench.labels(surprises) if bench.can_learn else None,
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


@dataclass(frozen=True)
class _Bench:
    series: Sequence[Series]
    minutes_per_row: float

    @property
    def days(self) -> float:
        return sum(len(one.labels) for one in self.series) * self.minutes_per_row / 1440

    @property
    def can_learn(self) -> bool:
        left = any(one.labels[begin:].any() for one, begin in zip(self.series, cut(self.series), strict=True))
        return left and len({one.train.shape[1] for one in self.series}) == 1

    def run(self, name: str, seed: int, surprises: Sequence[Sequence[Surprises]]) -> Run:
        scores = self._scores(name, seed, surprises)
        return self.judged(scores, [0] * len(self.series), name, smooth=name in (OURS, AUTOENCODER))

    def _scores(self, name: str, seed: int, surprises: Sequence[Sequence[Surprises]]) -> list[Scores]:
        if name == OURS:
            return detector_scores(surprises[seed])
        if name == AUTOENCODER:
            return autoencoder_scores(self.series, seed)
        return [BASELINES[name](one.train, one.test, np.random.default_rng(seed)) for one in self.series]

    def judged(self, scores: Sequence[Scores], first: Sequence[int], name: str, *, smooth: bool) -> Run:
        """`first`: the row of each test series from which it is judged; `smooth`: rank after the detector's mean."""
        labels = [one.labels[begin:] for one, begin in zip(self.series, first, strict=True)]
        ranked = [_smoothed(one) if smooth else one for one in scores]
        ranked = [Scores(one.train, one.test[begin:]) for one, begin in zip(ranked, first, strict=True)]
        own = self._own_alarms(scores, first)
        return Run(
            alarms=own if name == OURS else best_rule(ranked, labels, self.minutes_per_row),
            same_alarms=own,
            vus_pr=_mean([vus_pr(one.test, known) for one, known in zip(ranked, labels, strict=True)]),
            auc_pr=_mean([auc_pr(one.test, known) for one, known in zip(ranked, labels, strict=True)]),
        )

    def _own_alarms(self, scores: Sequence[Scores], first: Sequence[int]) -> Outcome:
        """The detector's alarms on any scores: of their logarithm, with the level from the normal rows."""
        alarming, judged, days = Alarming(self.minutes_per_row), [], 0.0
        for one, entity, begin in zip(scores, self.series, first, strict=True):
            logs = np.log(np.concatenate((one.train, one.test)) + LEAST_SCORE)
            excess = alarming.excess(logs, float(np.median(logs[: len(one.train)])))
            alarms = excess[len(one.train) + begin :] > alarming.level(excess[: len(one.train)])
            judged.append(judge(alarms, entity.labels[begin:], 60 / self.minutes_per_row))
            days += len(alarms) * self.minutes_per_row / 1440
        return outcome(judged, days, "own")

    def labels(self, surprises: Sequence[Sequence[Surprises]]) -> dict[str, Any]:
        """The curve of labelled incidents, on the part of each test series that no label came from."""
        found: dict[str, dict[int, list[Run]]] = {}
        for seed, of_seed in enumerate(surprises):
            for name, by_count in lessons(self.series, of_seed, seed).items():
                for count, scores in by_count.items():
                    run = self.judged(scores, cut(self.series), OURS, smooth=True)
                    found.setdefault(name, {}).setdefault(count, []).append(run)
        curves = {
            name: {str(count): summary(runs, [run.alarms for run in runs]) for count, runs in by_count.items()}
            for name, by_count in found.items()
        }
        return {"available": len(incidents(self.series, surprises[0])), **curves}


def _smoothed(scores: Scores) -> Scores:
    """Averaged over as many windows as an alarm looks at."""
    rows = Persistence().n
    return Scores(*(trailing_mean(np.log(one + LEAST_SCORE), rows) for one in scores))


def _mean(values: Sequence[float]) -> float:
    """Over the entities that have labels."""
    return fmean(value for value in values if not np.isnan(value))
