"""Text or JSON -> functions; all findings of all documents at once, and nothing unless all is well."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from pilotlight.platform.manifest.errors import Finding, ManifestError
from pilotlight.platform.manifest.model import Function
from pilotlight.platform.manifest.source import Document, read_documents
from pilotlight.platform.manifest.translate import findings
from pilotlight.platform.manifest.units import shown


def load(text: str, source: str) -> tuple[Function, ...]:
    """Read every function of a YAML (or JSON) text.

    Args:
        text: One or more documents, 1 MiB at most; empty ones are skipped.
        source: The file's name, for the errors.

    Raises:
        ManifestError: With every finding of every document.
    """
    found: list[Finding] = []
    documents = read_documents(text, source, found)
    functions: list[Function] = []
    first: dict[str, int] = {}
    for document in documents:
        function = _function(document, source, found)
        if function is None:
            continue
        line = _line(document)
        if function.full_name in first:
            problem = f"function {function.full_name} is there twice, first in line {first[function.full_name]}"
            found.append(Finding(source, "metadata.name", problem, "each function once", line=line))
        first.setdefault(function.full_name, line)
        functions.append(function)
    if not documents and not found:
        found.append(Finding(source, "", "is empty", "a document with apiVersion, kind, metadata and spec"))
    if found:
        raise ManifestError(sorted(found, key=lambda item: item.line or 0))
    return tuple(functions)


def parse(content: object, source: str) -> Function:
    """Read one function from JSON values, as an API's body brings them. Raises `ManifestError`."""
    found: list[Finding] = []
    function = _function(Document(content), source, found)
    if function is None:
        raise ManifestError(found)
    return function


def _function(document: Document, source: str, found: list[Finding]) -> Function | None:
    found.extend(document.findings)
    if not isinstance(document.value, Mapping):
        if document.findings:
            return None
        place = document.place(())
        problem = f"is {shown(document.value)}"
        line = place.line if place else None
        found.append(Finding(source, "", problem, "a mapping with apiVersion, kind, metadata and spec", line=line))
        return None
    known = {finding.field for finding in document.findings}
    try:
        function = Function.model_validate(document.value)
    except ValidationError as error:
        new = findings(error.errors(include_url=False), document, source)
        found.extend(finding for finding in new if finding.field not in known)
        return None
    return None if known else function


def _line(document: Document) -> int:
    place = document.place(("metadata", "name"))
    return place.line if place else 0
