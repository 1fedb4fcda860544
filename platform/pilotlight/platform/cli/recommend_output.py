"""How `pilotlight recommend` tells its recommendations: a table, the reasons of each figure, or JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pilotlight.platform.cli.output import Column, Form, number, seconds, show_rows, show_value, size, text
from pilotlight.recommender import Figure, Recommendation, Refusal


def _fixed(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, int | float) else "-"


COLUMNS: tuple[Column, ...] = (
    Column("ACCELERATOR", "accelerator", text),
    Column("FITS", "fits", text),
    Column("CONTEXT", "max_model_len", number, right=True),
    Column("AT ONCE", "concurrency", number, right=True),
    Column("TOKENS/S", "tokens_per_second", number, right=True),
    Column("ITL", "itl", seconds, right=True),
    Column("TTFT", "ttft", seconds, right=True),
    Column("REPLICAS", "replicas", number, right=True),
    Column("US$/M", "cost_per_million_tokens", _fixed, right=True),
    Column("START", "start_seconds", seconds, right=True),
)
FIGURES: tuple[Column, ...] = (
    Column("FIGURE", "name", text),
    Column("VALUE", "value", text, right=True),
    Column("95 %", "interval", text, right=True),
    Column("WHY", "reason", text),
)


def show(rows: Sequence[Recommendation | Refusal], *, explain: bool, as_json: bool) -> None:
    if as_json:
        from pilotlight.platform.api.recommending_views import recommended_out

        show_value([recommended_out(row).model_dump(mode="json") for row in rows], Form.JSON)
        return
    show_rows([_row(row) for row in rows], COLUMNS, Form.TABLE, empty="")
    for line in _refusals(rows):
        print(line)
    if explain:
        for row in rows:
            if isinstance(row, Recommendation):
                _explain(row)
    else:
        for note in dict.fromkeys(note for row in rows if isinstance(row, Recommendation) for note in row.notes):
            print(f"note: {note}")


def _row(row: Recommendation | Refusal) -> Mapping[str, object]:
    if isinstance(row, Refusal):
        return {"accelerator": row.accelerator.name, "fits": "no"}
    count = row.plan.request.accelerators
    values = {name: figure.value for name, figure in row.figures.items()}
    return {"accelerator": row.accelerator.name, "fits": "yes" if count == 1 else f"{count} of them", **values}


def _refusals(rows: Sequence[Recommendation | Refusal]) -> Iterator[str]:
    for row in rows:
        if isinstance(row, Refusal):
            yield f"{row.accelerator.name}: {row.error}"


def _explain(row: Recommendation) -> None:
    print(f"\n{row.accelerator.name} ({row.accelerator.source})")
    told = [
        {
            "name": figure.name,
            "value": _value(figure.value, figure.unit),
            "interval": _interval(figure),
            "reason": figure.reason,
        }
        for figure in row.figures.values()
    ]
    show_rows(told, FIGURES, Form.TABLE, empty="")
    for label, sentences in (("check", row.checks), ("note", row.notes)):
        for sentence in sentences:
            print(f"{label}: {sentence}")


def _interval(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return ""
    return f"{_value(figure.low, figure.unit)} - {_value(figure.high, figure.unit)}"


def _value(value: float | str, unit: str) -> str:
    if isinstance(value, str):
        return value
    if unit == "bytes":
        return size(value)
    if unit == "s":
        return seconds(value)
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
