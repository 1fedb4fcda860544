"""Everything that a revision is configured with, for an SLO and its lengths: each number with its reason and interval.

Pure: facts, accelerators and measurements come as values. docs/recommender.md has every formula.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pilotlight.recommender._batch import choose, load_of
from pilotlight.recommender._capacity import capacity, notes
from pilotlight.recommender._choice import Choice, Figure, rounded
from pilotlight.recommender._settings import checks, options, settings
from pilotlight.recommender.accelerators import Accelerator
from pilotlight.recommender.errors import DoesNotFit, OptionRefused, RecommenderError, SloUnreachable
from pilotlight.recommender.facts import ModelFacts
from pilotlight.recommender.memory import PARALLEL, MemoryPlan
from pilotlight.recommender.performance import Performance, expected
from pilotlight.recommender.placing import Placed, Split, given, place
from pilotlight.recommender.workload import FREE, NO_BOUND, USUAL, Constraints, Slo, Workload

__all__ = ["Figure", "Recommendation", "Refusal", "compare", "recommend", "routing_weights"]

STAGES = (1, 2, 4)
"""Pipeline-parallel sizes that are tried: only where no tensor-parallel size holds the model."""
WORTH = 1.3
"""More accelerators in a replica have to bring so many times the tokens per second of each: larger replicas start
later, follow the load in coarser steps, and what they exchange is known least."""


@dataclass(frozen=True)
class Recommendation:
    """One replica's configuration, what it is expected to do, and why."""

    accelerator: Accelerator
    slo: Slo
    workload: Workload
    constraints: Constraints
    performance: Performance
    """What latencies were read from; `online.observe` makes the next one of it."""
    plan: MemoryPlan
    figures: Mapping[str, Figure]
    """By name, in the order in which they are told; those that do not apply are not there."""
    options: Mapping[str, object]
    """The engine's, by vLLM's names."""
    checks: tuple[str, ...] = ()
    """What has to pass before it may serve, one sentence each: where a number format changes answers."""
    notes: tuple[str, ...] = ()
    """What was guessed, one sentence each."""

    def __getitem__(self, name: str) -> Figure:
        return self.figures[name]

    def number(self, name: str) -> float:
        """A figure's value. Raises `KeyError` where it does not apply, `TypeError` where it is no number."""
        value = self.figures[name].value
        if isinstance(value, str):
            raise TypeError(f"{name} is {value!r}, not a number")
        return float(value)


@dataclass(frozen=True)
class Refusal:
    """An accelerator on which the model cannot serve so."""

    accelerator: Accelerator
    error: RecommenderError


def recommend(
    facts: ModelFacts,
    accelerator: Accelerator,
    performance: Performance | None = None,
    slo: Slo = NO_BOUND,
    workload: Workload = USUAL,
    constraints: Constraints = FREE,
    *,
    starts: Sequence[Mapping[str, float]] = (),
    others: Sequence[Accelerator] = (),
) -> Recommendation:
    """Recommend one replica's configuration.

    Args:
        facts: The model.
        accelerator: Each of the replica's accelerators, or a machine's processors.
        performance: What is known of its latencies at `constraints.tensor_parallel`; None: what the roofline expects,
            and the number of accelerators is the recommender's choice too.
        slo: Bounds to keep.
        workload: Lengths and rate of requests.
        constraints: What is fixed already.
        starts: Seconds by phase of earlier cold starts, newest last.
        others: Accelerators that a refusal may advise.

    Raises:
        DoesNotFit: No number of accelerators has the memory.
        OptionRefused: What is fixed contradicts the model.
        SloUnreachable: A single request is surely too slow already.
    """
    fixed = replace(constraints, task="embed") if facts.encoder else constraints
    made = _made(facts, accelerator, performance, slo, workload, fixed)
    if not isinstance(made, Choice):
        raise _advised(made, facts, slo, workload, fixed, others)
    return _recommendation(made, fixed, starts)


def compare(
    facts: ModelFacts,
    accelerators: Iterable[Accelerator],
    slo: Slo = NO_BOUND,
    workload: Workload = USUAL,
    constraints: Constraints = FREE,
) -> list[Recommendation | Refusal]:
    """The same on every accelerator, before anything was measured, in their order."""
    return [_tried(facts, accelerator, slo, workload, constraints) for accelerator in accelerators]


def routing_weights(recommendations: Mapping[str, Recommendation]) -> dict[str, Figure]:
    """Shares of requests for unlike replicas of one function, by replica: as their capacities are; they sum to 1.

    After ENOVA's weights for heterogeneous replicas (Huang and others, 2024), with capacity at the SLO as the measure.
    """
    capacities = {name: made.number("requests_per_second") for name, made in recommendations.items()}
    whole = sum(capacities.values())
    return {
        name: Figure(
            "routing_weight",
            capacity / whole,
            "share",
            "requests per second that it serves within the SLO, by those of all replicas",
            {"requests_per_second": capacity, "all": whole},
        )
        for name, capacity in capacities.items()
    }


def _tried(
    facts: ModelFacts, accelerator: Accelerator, slo: Slo, workload: Workload, constraints: Constraints
) -> Recommendation | Refusal:
    try:
        return recommend(facts, accelerator, None, slo, workload, constraints)
    except RecommenderError as error:
        return Refusal(accelerator, error)


def _made(
    facts: ModelFacts,
    accelerator: Accelerator,
    performance: Performance | None,
    slo: Slo,
    workload: Workload,
    constraints: Constraints,
) -> Choice | RecommenderError:
    """More stages hold more and are no faster, so they are for what does not fit otherwise."""
    refusal: RecommenderError | None = None
    alone = performance is not None or accelerator.kind == "cpu"
    for splits in [[given(constraints)]] if alone else _splits(constraints, accelerator.count):
        found = _best(_candidates(splits, facts, accelerator, performance, slo, workload, constraints))
        if not isinstance(found, DoesNotFit):
            return found
        refusal = refusal or found
    assert refusal is not None  # there is one split at least
    return refusal


def _splits(constraints: Constraints, count: int | None) -> list[list[Split]]:
    """By stages, over `count` accelerators at most: the fewest first, and where one stage is not enough the most.

    Who gives one of both sizes has counted the accelerators, so the other is one where it is not given.
    """
    if constraints.tensor_parallel or constraints.pipeline_parallel:
        return [[given(constraints)]]
    sizes = {stages: [size for size in PARALLEL if count is None or size * stages <= count] for stages in STAGES}
    return [
        [Split(size, stages) for size in (fitting if stages == 1 else fitting[::-1])]
        for stages, fitting in sizes.items()
        if fitting
    ]


def _candidates(
    splits: Iterable[Split],
    facts: ModelFacts,
    accelerator: Accelerator,
    performance: Performance | None,
    slo: Slo,
    workload: Workload,
    constraints: Constraints,
) -> Iterator[Choice | RecommenderError]:
    for split in splits:
        try:
            placed = place(facts, accelerator, workload, constraints, split)
            yield _choice(placed, performance or expected(placed.setup), slo, constraints)
        except (DoesNotFit, OptionRefused, SloUnreachable) as error:
            yield error


def _choice(placed: Placed, performance: Performance, slo: Slo, constraints: Constraints) -> Choice:
    load = load_of(placed, performance)
    batch = choose(placed, load, slo)
    hard = constraints.max_num_seqs or rounded(batch, placed)
    final = place(
        placed.facts,
        placed.accelerator,
        placed.workload,
        replace(constraints, max_num_seqs=hard, context=placed.plan.context),
        Split(placed.plan.request.ranks, placed.plan.request.stages),
    )
    return Choice(final, load, batch, hard, slo, constraints)


def _best(candidates: Iterable[Choice | RecommenderError]) -> Choice | RecommenderError:
    """The fewest accelerators, unless more of them are worth it."""
    best: Choice | None = None
    refusals: list[RecommenderError] = []
    for found in candidates:
        if not isinstance(found, Choice):
            refusals.append(found)
        elif best is None or (best.batch.doubt and not found.batch.doubt) or _worth(found, best):
            best = found
        else:
            break
    return best or min(refusals, key=_told_last)


def _worth(more: Choice, fewer: Choice) -> bool:
    doubtful = bool(more.batch.doubt) and not fewer.batch.doubt
    return not doubtful and more.per_accelerator > WORTH * fewer.per_accelerator


def _told_last(error: RecommenderError) -> tuple[bool, float]:
    """What is nearest to working: a bound that is missed by least, else what the fewest accelerators lack."""
    return (False, error.reachable) if isinstance(error, SloUnreachable) else (True, 0.0)


def _advised(
    error: RecommenderError,
    facts: ModelFacts,
    slo: Slo,
    workload: Workload,
    constraints: Constraints,
    others: Sequence[Accelerator],
) -> RecommenderError:
    """With an accelerator on which it would do."""
    if not isinstance(error, SloUnreachable | DoesNotFit):
        return error
    free = replace(constraints, tensor_parallel=None, pipeline_parallel=None)
    working = [made for made in compare(facts, others, slo, workload, free) if isinstance(made, Recommendation)]
    if not working:
        return error
    first = min(working, key=lambda made: made.plan.request.accelerators * made.accelerator.memory_bytes)
    advice = f"take {first.plan.request.accelerators} x {first.accelerator.name}"
    if isinstance(error, SloUnreachable):
        return SloUnreachable(error.bound, error.wanted, error.reachable, error.where, (*error.changes, advice))
    return DoesNotFit(f"{error}; or {advice}", error.needed_bytes, error.available_bytes, (*error.changes, advice))


def _recommendation(made: Choice, constraints: Constraints, starts: Sequence[Mapping[str, float]]) -> Recommendation:
    figures = {figure.name: figure for figure in (*settings(made), *capacity(made, starts))}
    return Recommendation(
        accelerator=made.placed.accelerator,
        slo=made.slo,
        workload=made.placed.workload,
        constraints=constraints,
        performance=made.load.performance,
        plan=made.placed.plan,
        figures=figures,
        options=options(figures, made),
        checks=tuple(checks(made)),
        notes=tuple(notes(made)),
    )
