"""The page at `/`: the API's document, readable, in one self-contained file without scripts."""

from __future__ import annotations

from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-weight: 600; } code, pre { font: 14px/1.4 ui-monospace, monospace; }
details { border: 1px solid var(--line); border-radius: 8px; margin: .4rem 0; padding: .5rem .8rem; }
summary { cursor: pointer; } .method { display: inline-block; width: 4.5rem; font-weight: 700; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: .2rem .6rem .2rem 0;
border-bottom: 1px solid var(--line); vertical-align: top; } pre { overflow-x: auto; }
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
        f"<h1>Pilotlight</h1><p>Version {escape(info['version'])}. {escape(info['description'])}</p>"
        "<p>Every request needs a key: <code>Authorization: Bearer pl-...</code>. The document itself is at "
        '<a href="/api/v1alpha1/openapi.json">/api/v1alpha1/openapi.json</a>.</p>'
        f"<h2>Operations</h2>{rows}<h2>Objects</h2>{_schemas(document['components']['schemas'])}</body></html>"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    note = f"<p>{escape(operation['description'])}</p>" if "description" in operation else ""
    rows = "".join(_parameter(parameter) for parameter in operation["parameters"])
    table = f"<table><tr><th>Parameter</th><th>In</th><th>Meaning</th></tr>{rows}</table>" if rows else ""
    return (
        f'<details><summary><span class="method">{escape(method.upper())}</span><code>{escape(path)}</code> '
        f"{escape(operation['summary'])}</summary>{note}{table}{_answers(operation)}</details>"
    )


def _parameter(parameter: dict[str, Any]) -> str:
    meaning = parameter["schema"].get("description", "")
    return (
        f"<tr><td><code>{escape(parameter['name'])}</code></td><td>{escape(parameter['in'])}</td>"
        f"<td>{escape(meaning)}</td></tr>"
    )


def _answers(operation: dict[str, Any]) -> str:
    for status, answer in operation["responses"].items():
        for media, content in answer.get("content", {}).items():
            name = str(content["schema"].get("$ref", "")).rpartition("/")[2]
            link = f' <a href="#{escape(name)}">{escape(name)}</a>' if name else ""
            return f"<p>{escape(status)}: <code>{escape(media)}</code>{link}</p>"
    return ""


def _schemas(schemas: dict[str, Any]) -> str:
    return "".join(_schema(name, schema) for name, schema in sorted(schemas.items()))


def _schema(name: str, schema: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(field)}</code></td><td>{escape(_kind(value))}</td>"
        f"<td>{escape(str(value.get('description', '')))}</td></tr>"
        for field, value in schema.get("properties", {}).items()
    )
    head = f"<code>{escape(name)}</code> {escape(str(schema.get('description', '')))}"
    return f'<details id="{escape(name)}"><summary>{head}</summary><table>{rows}</table></details>'


def _kind(value: dict[str, Any]) -> str:
    if "anyOf" in value:
        return " or ".join(_kind(option) for option in value["anyOf"])
    if "$ref" in value:
        return str(value["$ref"]).rpartition("/")[2]
    if value.get("type") == "array":
        return f"list of {_kind(value.get('items', {}))}"
    return str(value.get("type", value.get("const", "any")))
