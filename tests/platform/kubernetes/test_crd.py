"""The CRD is made from the manifest's model, and is what the API server calls structural."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pilotlight.platform.kubernetes.crd import crd, render
from pilotlight.platform.manifest import Function

PAGE = Path(__file__).parents[3] / "manifests" / "base" / "crd.yaml"


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, each in schema.get("properties", {}).items():
        yield from nodes(each, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if name in schema:
            yield from nodes(schema[name], f"{path}.{name}")


def root() -> dict[str, Any]:
    schema: dict[str, Any] = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def at(path: str) -> dict[str, Any]:
    return dict(nodes(root()))[path]


def test_the_file_is_current() -> None:
    command = "python -m pilotlight.platform.kubernetes.crd > manifests/base/crd.yaml"
    assert PAGE.read_text() == render(), f"run: {command}"


def test_every_node_has_one_type_and_no_reference() -> None:
    for path, node in nodes(root()):
        untyped = node.get("x-kubernetes-int-or-string") or node.get("x-kubernetes-preserve-unknown-fields")
        assert ("type" in node) or untyped, path
        assert not node.keys() & {"$ref", "allOf", "oneOf", "not", "title", "examples", "patternProperties"}, path
        assert "anyOf" not in node or node.get("x-kubernetes-int-or-string"), path


def test_every_field_of_the_manifest_is_described() -> None:
    for path, node in nodes(at(".spec"), ".spec"):
        if not path.endswith((".items", ".additionalProperties")):
            assert node.get("description"), path


def test_every_field_of_the_model_is_there() -> None:
    definitions = Function.model_json_schema(by_alias=True)["$defs"]
    for path, name in ((".spec", "Spec"), (".spec.engine", "Engine"), (".spec.pod.tolerations.items", "Toleration")):
        assert at(path)["properties"].keys() == definitions[name]["properties"].keys()


def test_plain_defaults_are_the_models() -> None:
    assert at(".spec.scale.max")["default"] == 1
    assert at(".spec.scale.keepAlive")["default"] == "5m"
    assert at(".spec.slo.class")["default"] == "interactive"
    assert "default" not in at(".spec.resources.count"), "whether it was given counts"


def test_the_status_is_a_subresource_with_the_activators_part_open() -> None:
    assert crd()["spec"]["versions"][0]["subresources"] == {"status": {}}
    assert at(".status.route")["x-kubernetes-preserve-unknown-fields"] is True
