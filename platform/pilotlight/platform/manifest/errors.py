"""What is wrong with a manifest: every finding of every document, in one error."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MOST_FINDINGS = 100


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and where."""

    source: str  # file name, or what the manifest came from
    field: str  # "spec.scale.max"; empty: the document as a whole
    problem: str
    expected: str = ""
    did_you_mean: str = ""
    line: int | None = None  # from 1; None: the source has no lines
    column: int | None = None  # from 1
    hint: str = ""  # a trap that the writer may not know

    def __str__(self) -> str:
        where = self.source if self.line is None else f"{self.source}:{self.line}"
        text = f"{where}: {self.field}: {self.problem}" if self.field else f"{where}: {self.problem}"
        if self.expected:
            text += f"; expected {self.expected}"
        if self.did_you_mean:
            text += f'; did you mean "{self.did_you_mean}"?'
        return _one_line(f"{text}; {self.hint}" if self.hint else text)


def _one_line(text: str) -> str:
    """What was written may hold line breaks and terminal codes; what is printed may not."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class ManifestError(ValueError):
    """Nothing was taken from the input; `str()` gives one line per finding.

    Args:
        items: The findings; of more than `MOST_FINDINGS` the first ones are kept, and that there are more.
    """

    def __init__(self, items: Iterable[Finding]) -> None:
        found = list(items)
        if len(found) > MOST_FINDINGS:
            found[MOST_FINDINGS:] = [Finding(found[0].source, "", f"has more mistakes than these {MOST_FINDINGS}")]
        self.items = tuple(found)
        super().__init__("\n".join(map(str, self.items)))


@dataclass(frozen=True)
class Problem:
    """A broken rule between fields; `field` is relative to the object whose rule it is."""

    field: str  # "max", or "adapters.1.name"
    problem: str
    expected: str = ""
    did_you_mean: str = ""


class BrokenRules(ValueError):  # noqa: N818 - carries problems from a model's validator to the translation
    """All broken rules of one object."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(problem.problem for problem in problems))
        self.problems = problems
