"""How good the performance model is, on any file of public measurements.

Leave-one-out within groups of rows that differ in nothing but the batch size and what was measured, three batch sizes
or more. A whole batch size is left out at a time, repeats with it, so that no copy of what is asked for can answer; the
curve through the rest is then chosen and fitted from nothing but the rest. Errors are relative to what was measured.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np
from numpy.typing import NDArray

from pilotlight.recommender import roofline, tables
from pilotlight.recommender._regression import student_t
from pilotlight.recommender.accelerators import Catalogue
from pilotlight.recommender.curve import Estimate, Point, Prior
from pilotlight.recommender.fitting import fit
from pilotlight.recommender.measurements import DataRefused, Measurement, batches, groups, setup_of
from pilotlight.recommender.performance import ITL_NOISE, TTFT_NOISE

LEAST_BATCHES = 3
_LEAST_RANKED = 5  # rows from which a rank correlation says anything
Report = dict[str, object]
Method = Callable[[Sequence[Point], float], Estimate]


@dataclass(frozen=True)
class Trial:
    """One prediction of what was left out."""

    estimate: Estimate
    measured: float
    end: bool
    """Whether it was the smallest or largest batch size: an extrapolation."""

    @property
    def error(self) -> float:
        return abs(self.estimate.value / self.measured - 1)

    @property
    def covered(self) -> bool:
        return self.estimate.low <= self.measured <= self.estimate.high


def evaluate(rows: Sequence[Measurement], catalogue: Catalogue) -> Report:
    """Every figure; errors as fractions.

    Raises:
        DataRefused: No group has three batch sizes.
    """
    usable = groups(rows, LEAST_BATCHES)
    if not usable:
        raise DataRefused(f"no group of rows has {LEAST_BATCHES} batch sizes, so there is nothing to leave out")
    known = [group for group in usable if setup_of(group[0], catalogue)]
    return {
        "itl": _summary(_trials(usable, "itl", lambda group: _curve(group, "itl", catalogue))),
        "ttft": _summary(_trials(usable, "ttft", lambda group: _curve(group, "ttft", catalogue))),
        "linear_baseline": {
            "itl": _summary(_trials(usable, "itl", lambda _: straight_line)),
            "ttft": _summary(_trials(usable, "ttft", lambda _: straight_line)),
        },
        "without_prior": _summary(_trials(usable, "itl", lambda _: _free)),
        "one_point": {
            **_one_point(known, [prior_of(group[0], "itl", catalogue) for group in known]),
            "with_aiconfigurator": _with_tables(known, catalogue),
        },
        "zero_shot": _zero_shot(rows, catalogue),
        "rank": _rank(rows, catalogue),
        "data": {"rows": len(rows), "groups": len(usable), "groups_with_prior": len(known)},
    }


def left_out(group: Sequence[Measurement], target: str, method: Method) -> list[Trial]:
    """Each batch size of a group predicted from the others."""
    sizes = batches(group)
    trials = []
    for size in sizes:
        others = [Point(row.batch, getattr(row, target)) for row in group if row.batch != size]
        estimate = method(others, size)
        end = size in (sizes[0], sizes[-1])
        trials += [Trial(estimate, getattr(row, target), end) for row in group if row.batch == size]
    return trials


def prior_of(row: Measurement, target: str, catalogue: Catalogue) -> Prior | None:
    """The roofline's seconds by batch size; None for an unknown model or accelerator."""
    setup = setup_of(row, catalogue)
    if setup is None:
        return None
    if target == "itl":
        return lambda batch: roofline.itl(setup, batch)
    return lambda batch: roofline.ttft(setup, setup.prompt, batch)


def straight_line(points: Sequence[Point], load: float) -> Estimate:
    """The baseline: a + b * load by least squares, weights 1 / seconds^2, and its textbook prediction interval."""
    seconds = np.array([point.seconds for point in points])
    rows = np.array([[1.0, point.load] for point in points]) / seconds[:, None]
    solution, *_ = np.linalg.lstsq(rows, np.ones(len(points)), rcond=None)
    value = float(solution @ [1.0, load])
    freedom = len(points) - 2
    if freedom < 1:
        return Estimate(value, -math.inf, math.inf)
    variance = float(np.sum((1 - rows @ solution) ** 2)) / freedom
    where = np.array([1.0, load])
    spread = variance * (float(where @ np.linalg.pinv(rows.T @ rows) @ where) + value**2)
    reach = student_t(freedom) * math.sqrt(spread)
    return Estimate(value, value - reach, value + reach)


def spearman(left: Sequence[float], right: Sequence[float]) -> float:
    """Rank correlation, ties by their mean rank; NaN where one side is constant."""
    ranks = [_ranks(np.array(side)) for side in (left, right)]
    deviations = [rank - rank.mean() for rank in ranks]
    scale = math.sqrt(float((deviations[0] ** 2).sum() * (deviations[1] ** 2).sum()))
    return float(deviations[0] @ deviations[1]) / scale if scale else math.nan


def _curve(group: Sequence[Measurement], target: str, catalogue: Catalogue) -> Method:
    prior = prior_of(group[0], target, catalogue)
    noise = ITL_NOISE if target == "itl" else TTFT_NOISE
    return lambda points, load: fit(points, prior, noise).at(load)


def _free(points: Sequence[Point], load: float) -> Estimate:
    return fit(points).at(load)


def _trials(
    usable: Iterable[list[Measurement]], target: str, method: Callable[[list[Measurement]], Method]
) -> list[Trial]:
    return [trial for group in usable for trial in left_out(group, target, method(group))]


def _summary(trials: Sequence[Trial]) -> Report:
    """Over all of them, and over interior and end points apart."""
    return {
        **_figures(trials),
        "interior": _figures([trial for trial in trials if not trial.end]),
        "ends": _figures([trial for trial in trials if trial.end]),
    }


def _figures(trials: Sequence[Trial]) -> Report:
    return {**_errors([trial.error for trial in trials]), "coverage95": _mean([trial.covered for trial in trials])}


def _errors(errors: Sequence[float]) -> Report:
    return {"median_error": median(errors) if errors else None, "mean_error": _mean(errors), "count": len(errors)}


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _one_point(known: Sequence[list[Measurement]], priors: Sequence[Prior | None]) -> Report:
    """From every single row to every row of another batch size in its group."""
    trials = []
    for group, prior in zip(known, priors, strict=True):
        for row in group:
            curve = fit([Point(row.batch, row.itl)], prior, ITL_NOISE)
            trials += [Trial(curve.at(other.batch), other.itl, False) for other in group if other.batch != row.batch]
    return _figures(trials)


def _with_tables(known: Sequence[list[Measurement]], catalogue: Catalogue) -> Report:
    """The same with the tables in the prior, and the roofline alone where they lack something."""
    if not tables.installed():
        return {"installed": False}
    found = [_table_prior(group[0], catalogue) for group in known]
    priors = [prior or prior_of(group[0], "itl", catalogue) for prior, group in zip(found, known, strict=True)]
    answered = sum(prior is not None for prior in found)
    return {"installed": True, **_one_point(known, priors), "groups_with_tables": answered}


def _table_prior(row: Measurement, catalogue: Catalogue) -> Prior | None:
    setup = setup_of(row, catalogue)
    if setup is None:
        return None
    spread, split = (max(1, int(row.setting(column) or 1)) for column in ("moe_ep_size", "moe_tp_size"))
    names = row.setting("model_path"), row.setting("system"), row.setting("gemm_quant_mode")
    return tables.itl_prior(setup, *names, experts=(split, spread))


def _zero_shot(rows: Iterable[Measurement], catalogue: Catalogue) -> Report:
    """The roofline alone, nothing measured."""
    itl, ttft = [], []
    for row in rows:
        setup = setup_of(row, catalogue)
        if setup is not None:
            itl.append(abs(roofline.itl(setup, row.batch) / row.itl - 1))
            ttft.append(abs(roofline.ttft(setup, setup.prompt, row.batch) / row.ttft - 1))
    return {"itl": _errors(itl), "ttft": _errors(ttft)}


def _rank(rows: Iterable[Measurement], catalogue: Catalogue) -> Report:
    """Throughput per device, the roofline's order against the measured one.

    The figure is the median over the accelerators, each with every model, setting, length and batch size measured on
    it. `within_models` keeps to one model, precision, version and lengths: only batch and parallel sizes differ.
    """
    wide: dict[str, list[tuple[float, float]]] = defaultdict(list)
    narrow: dict[tuple[str, ...], list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        setup = setup_of(row, catalogue)
        if setup is not None:
            pair = (_measured_throughput(row, setup), roofline.throughput(setup, row.batch))
            wide[row.setting("system")].append(pair)
            narrow[tuple(map(row.setting, _RANKED_WITHIN))].append(pair)
    systems = {name: found for name, pairs in wide.items() if (found := _correlation(pairs)) is not None}
    within = [found for pairs in narrow.values() if (found := _correlation(pairs)) is not None]
    return {
        "spearman_median": median(systems.values()) if systems else None,
        "by_accelerator": systems,
        "within_models": {"spearman_median": median(within) if within else None, "groups": len(within)},
    }


_RANKED_WITHIN = ("backend_version", "model_path", "system", "precision", "isl", "osl")


def _measured_throughput(row: Measurement, setup: roofline.Setup) -> float:
    whole = row.ttft + max(0.0, setup.answer - 1) * row.itl
    return setup.data_parallel * row.batch * setup.answer / whole / setup.devices


def _correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    if len(pairs) < _LEAST_RANKED:
        return None
    found = spearman([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    return None if math.isnan(found) else found


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[places])
