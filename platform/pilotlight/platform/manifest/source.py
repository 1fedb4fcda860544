"""YAML text -> plain values, with the place of every node kept for the errors.

The text may come from anybody: size, depth, nodes and what aliases multiply are bounded, tags that build objects are
refused, and so are duplicate keys, which YAML would let the last one win.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from pilotlight.platform.manifest.errors import Finding, ManifestError
from pilotlight.platform.manifest.units import shown

LARGEST_TEXT = 2**20  # bytes
DEEPEST = 32
TOO_DEEP = f"nests deeper than {DEEPEST} levels"
MOST_NODES = 50_000  # in the whole text, every use of an alias counted

Path = tuple[str | int, ...]
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PREFIX = "tag:yaml.org,2002:"
_TEXT_TAGS = frozenset({f"{_PREFIX}str", f"{_PREFIX}timestamp"})  # a date is text here: JSON has none
_SCALAR_TAGS = frozenset({f"{_PREFIX}{name}" for name in ("int", "float", "bool", "null")})


@dataclass(frozen=True)
class Place:
    """Where a value stands, and its bare text if it was not quoted."""

    line: int  # from 1
    column: int  # from 1
    bare: str | None = None


@dataclass(frozen=True)
class Document:
    """One YAML document."""

    value: object
    values: dict[Path, Place] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)
    """Where the key stands that leads to a value."""
    findings: tuple[Finding, ...] = ()
    """What is wrong with it as YAML; the values concerned are missing or empty."""

    def place(self, path: Path, *, key: bool = False) -> Place | None:
        """Of a value or its key; of the nearest object around it, where it is missing."""
        if key and path in self.keys:
            return self.keys[path]
        for length in range(len(path), -1, -1):
            if path[:length] in self.values:
                return self.values[path[:length]]
        return None


def read_documents(text: str, source: str, findings: list[Finding]) -> list[Document]:
    """Documents that are not empty; what breaks the text off goes to `findings`.

    Raises `ManifestError` where nothing at all can be read: too large, too deep, not text.
    """
    _check_bounds(text, source)
    documents: list[Document] = []
    budget = _Budget(source)
    try:
        for node in yaml.compose_all(text, Loader=_LOADER):
            document = _Reader(source, budget).read(node)
            if document.value is not None or document.findings:
                documents.append(document)
    except yaml.YAMLError as error:
        findings.append(_syntax(error, source))
    return documents


def _check_bounds(text: str, source: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise ManifestError([Finding(source, "", "is not valid Unicode text")]) from error
    if size > LARGEST_TEXT:
        raise ManifestError([Finding(source, "", f"is {size} bytes", f"at most {LARGEST_TEXT}")])
    depth = events = 0
    try:
        # Before composing, which recurses: events come one by one, however deep the text.
        for event in yaml.parse(text, Loader=_LOADER):
            events += 1
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST or events > 3 * MOST_NODES:
                what = TOO_DEEP if depth > DEEPEST else f"has more than {MOST_NODES} values"
                raise ManifestError([Finding(source, "", what, line=_line(event.start_mark))])
    except yaml.YAMLError as error:
        if "nesting" in str(
            getattr(error, "problem", "")
        ):  # the parser's own bound, which a text may reach before its first event
            raise ManifestError([Finding(source, "", TOO_DEEP)]) from error
        return  # told by the reading itself, after the documents before it


class _Budget:
    def __init__(self, source: str) -> None:
        self._source = source
        self._left = MOST_NODES

    def spend(self, node: yaml.Node, depth: int) -> None:
        self._left -= 1
        if self._left < 0 or depth > DEEPEST:
            what = "aliases make it too large or endless"
            raise ManifestError([Finding(self._source, "", what, line=_line(node.start_mark))])


class _Reader:
    """Walks one document's nodes into values."""

    def __init__(self, source: str, budget: _Budget) -> None:
        self._source = source
        self._budget = budget
        self._findings: list[Finding] = []
        self._values: dict[Path, Place] = {}
        self._keys: dict[Path, Place] = {}
        self._scalars = yaml.constructor.SafeConstructor()

    def read(self, node: yaml.Node) -> Document:
        value = self._value(node, ())
        return Document(value, self._values, self._keys, tuple(self._findings))

    def _value(self, node: yaml.Node, path: Path) -> object:
        self._budget.spend(node, len(path))
        bare = node.value if isinstance(node, yaml.ScalarNode) and not node.style else None
        self._values[path] = Place(node.start_mark.line + 1, node.start_mark.column + 1, bare)
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_PREFIX}map":
            return {key: self._value(child, (*path, key)) for key, child in self._entries(node, path)}
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_PREFIX}seq":
            return [self._value(child, (*path, number)) for number, child in enumerate(node.value)]
        return self._scalar(node, path)

    def _entries(self, node: yaml.MappingNode, path: Path) -> Iterator[tuple[str, yaml.Node]]:
        seen: dict[str, int] = {}
        for key, child in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.tag == f"{_PREFIX}merge":
                self._wrong(key, path, "has a key that is not a plain word", "a field's name")
                continue
            if key.value in seen:
                self._wrong(key, (*path, key.value), f"is there twice, first in line {seen[key.value]}", "it once")
                continue
            seen[key.value] = line
            self._keys[(*path, key.value)] = Place(line, key.start_mark.column + 1, key.value)
            yield key.value, child

    def _scalar(self, node: yaml.Node, path: Path) -> object:
        if node.tag in _TEXT_TAGS and isinstance(node, yaml.ScalarNode):
            return node.value
        if node.tag not in _SCALAR_TAGS or not isinstance(node, yaml.ScalarNode):
            self._wrong(node, path, f"has the tag {node.tag.removeprefix(_PREFIX)[:60]}", "plain values")
            return None
        try:
            value: object = self._scalars.construct_object(node)
        except (ValueError, KeyError, yaml.YAMLError):
            self._wrong(node, path, f"{shown(node.value)} cannot be read as {node.tag.removeprefix(_PREFIX)}")
            return None
        return value

    def _wrong(self, node: yaml.Node, path: Path, problem: str, expected: str = "") -> None:
        mark = node.start_mark
        self._findings.append(
            Finding(self._source, dotted(path), problem, expected, line=mark.line + 1, column=mark.column + 1)
        )


def _line(mark: object) -> int:
    """From 1; yaml's marks count from 0."""
    line = getattr(mark, "line", 0)
    return line + 1 if isinstance(line, int) else 1


def dotted(path: Path) -> str:
    """`spec.adapters[0].name`; a key that is no plain word is quoted and cut."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            word = step[:60] if step.isprintable() else repr(step)[:60]
            text += f".{word}" if text else word
    return text


def _syntax(error: yaml.YAMLError, source: str) -> Finding:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).split("\n", 1)[0]
    text = f"is not YAML: {problem}"
    if mark is None:
        return Finding(source, "", text)
    hint = "YAML is indented with spaces, not tabs" if "\\t" in str(problem) or "tab" in str(problem) else ""
    return Finding(source, "", text, line=mark.line + 1, column=mark.column + 1, hint=hint)
