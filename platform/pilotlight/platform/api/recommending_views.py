"""Between the API's shapes and the recommender's values."""

from __future__ import annotations

from pilotlight.platform.api.recommending_shapes import FigureOut, Quantiles, RecommendedOut, RecommendIn
from pilotlight.platform.control.errors import RefusedError
from pilotlight.recommender import Figure, Lengths, Recommendation, Refusal, Slo, Workload


def workload(wanted: RecommendIn) -> Workload:
    """Raises RefusedError."""
    return Workload(_lengths("prompt", wanted.prompt), _lengths("answer", wanted.answer), rate=wanted.rate)


def slo(wanted: RecommendIn) -> Slo:
    return Slo(wanted.ttft, wanted.itl)


def _lengths(field: str, quantiles: Quantiles) -> Lengths:
    try:
        return Lengths(quantiles)
    except ValueError as error:
        raise RefusedError(f"{field}: {error}") from error


def recommended_out(row: Recommendation | Refusal) -> RecommendedOut:
    if isinstance(row, Refusal):
        return RecommendedOut(
            accelerator=row.accelerator.name,
            fits=False,
            refusal=str(row.error),
            figures={},
            options={},
            checks=(),
            notes=(),
        )
    return RecommendedOut(
        accelerator=row.accelerator.name,
        fits=True,
        refusal="",
        figures={name: _figure(figure) for name, figure in row.figures.items()},
        options=dict(row.options),
        checks=row.checks,
        notes=row.notes,
    )


def _figure(figure: Figure) -> FigureOut:
    return FigureOut(
        value=figure.value,
        unit=figure.unit,
        low=figure.low,
        high=figure.high,
        reason=figure.reason,
        inputs=dict(figure.inputs),
    )
