"""The page at `/`: the API's document, readable, in one self-contained file without scripts."""

from __future__ import annotations

import re
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-weight: 600; } code { font: 14px/1.4 ui-monospace, monospace; }
details { border: 1px solid var(--line); border-radius: 8px; margin: .4rem 0; padding: .5rem .8rem; }
summary { cursor: pointer; overflow-wrap: anywhere; } .method { display: inline-block; width: 5rem; font-weight: 700; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: .2rem .6rem .2rem 0;
border-bottom: 1px solid var(--line); vertical-align: top; }
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def page(document: dict[str, Any]) -> str:
    """HTML of the document."""
    info = document["info"]
    rows = "".join(
        _operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Pilotlight</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>Pilotlight</h1><p>Version {escape(info['version'])}. {_text(info['description'])}</p>"
        "<p>Every request needs a key, sent as <code>Authorization: Bearer KEY</code>;"
        " <code>pilotlight keys create</code> makes one. For programs, all of this is at "
        '<a href="/api/v1alpha1/openapi.json">/api/v1alpha1/openapi.json</a>.</p>'
        f"<h2>Operations</h2>{rows}<h2>Objects</h2>{_schemas(document['components']['schemas'])}</body></html>"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    note = f"<p>{_text(operation['description'])}</p>" if "description" in operation else ""
    rows = "".join(_parameter(parameter) for parameter in operation["parameters"])
    table = f"<table><tr><th>Parameter</th><th>In</th><th>Meaning</th></tr>{rows}</table>" if rows else ""
    return (
        f'<details><summary><span class="method">{escape(method.upper())}</span><code>{escape(path)}</code> '
        f"{escape(operation['summary'])}</summary>{note}{table}{_body(operation)}{_answers(operation)}</details>"
    )


def _parameter(parameter: dict[str, Any]) -> str:
    schema = parameter["schema"]
    meaning = _text(schema.get("description", ""))
    default = f" Default: <code>{escape(str(schema['default']))}</code>." if schema.get("default") else ""
    return (
        f"<tr><td><code>{escape(parameter['name'])}</code></td><td>{escape(parameter['in'])}</td>"
        f"<td>{escape(_kind(schema))}. {meaning}{default}</td></tr>"
    )


def _body(operation: dict[str, Any]) -> str:
    return "".join(
        f"<p>Body: {_content(media, content)}</p>"
        for media, content in operation.get("requestBody", {}).get("content", {}).items()
    )


def _answers(operation: dict[str, Any]) -> str:
    return "".join(
        f"<p>{'Error' if status == 'default' else escape(status)}: {_contents(answer) or 'no content'}</p>"
        for status, answer in operation["responses"].items()
    )


def _contents(answer: dict[str, Any]) -> str:
    return ", ".join(_content(media, content) for media, content in answer.get("content", {}).items())


def _content(media: str, content: dict[str, Any]) -> str:
    schema = content["schema"]
    names = [each["$ref"].rpartition("/")[2] for each in schema.get("anyOf", [schema]) if "$ref" in each]
    links = " or ".join(f'<a href="#{escape(name)}">{escape(name)}</a>' for name in names)
    return f"<code>{escape(media)}</code> {links}".strip()


def _schemas(schemas: dict[str, Any]) -> str:
    return "".join(_schema(name, schema) for name, schema in sorted(schemas.items()))


def _schema(name: str, schema: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(field)}</code></td><td>{escape(_kind(value))}</td>"
        f"<td>{_text(str(value.get('description', '')))}</td></tr>"
        for field, value in schema.get("properties", {}).items()
    )
    head = f"<code>{escape(name)}</code> {_text(str(schema.get('description', '')))}"
    return f'<details id="{escape(name)}"><summary>{head}</summary><table>{rows}</table></details>'


def _text(prose: str) -> str:
    """Escaped; what stands between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(prose))


def _kind(value: dict[str, Any]) -> str:
    if "anyOf" in value:
        return " or ".join(_kind(option) for option in value["anyOf"])
    if "$ref" in value:
        return str(value["$ref"]).rpartition("/")[2]
    if "enum" in value:
        return " or ".join(map(str, value["enum"]))
    if value.get("type") == "array":
        return f"list of {_kind(value.get('items', {}))}"
    return str(value.get("type", value.get("const", "any")))
