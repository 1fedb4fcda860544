"""One way to run a model that keeps its bounds, and the value that everything about it is told in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pilotlight.recommender._batch import Batch, Load
from pilotlight.recommender.placing import Placed
from pilotlight.recommender.workload import Constraints, Slo

_ROUND = 8  # sequences: engines capture graphs for multiples of it


@dataclass(frozen=True)
class Figure:
    """One number, or one word, that is recommended or expected."""

    name: str
    value: float | int | str
    unit: str
    reason: str
    inputs: Mapping[str, object] = field(default_factory=dict)
    """What it came from, by name."""
    low: float | None = None
    """Lower end of the 95 % interval; None: it is exact, or a choice."""
    high: float | None = None


@dataclass(frozen=True)
class Choice:
    """A placed model and how many requests it runs at once."""

    placed: Placed
    load: Load
    batch: Batch
    hard: int
    """`max_num_seqs`."""
    slo: Slo
    constraints: Constraints

    @property
    def per_accelerator(self) -> float:
        """Tokens per second."""
        return self.load.throughput(self.batch.chosen).value / self.placed.accelerators

    @property
    def embeds(self) -> bool:
        return self.constraints.task == "embed"

    @property
    def answer(self) -> float:
        """Tokens that are generated for a request; an embedder's vector counts as one."""
        return self.placed.setup.answer


def rounded(batch: Batch, placed: Placed) -> int:
    """The engine's own limit: what the cap may grow to as latencies turn out better, in steps of eight."""
    most = max(1, placed.plan.sequences)
    hopeful = -(-batch.hopeful // _ROUND) * _ROUND if batch.hopeful > _ROUND else batch.hopeful
    return max(batch.chosen, min(most, hopeful))
