"""Texts from anybody: several documents, empty ones, hostile ones; and that reading undoes writing."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotlight.platform.manifest import Duration, Function, ManifestError, RegistryReference, load, parse

MINIMAL = (
    "apiVersion: pilotlight.dev/v1alpha1\nkind: Function\nmetadata: {name: NAME}\nspec: {model: 's3://models/x'}\n"
)
EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))


def minimal(name: str) -> str:
    return MINIMAL.replace("NAME", name)


def test_model_alone_is_a_whole_spec() -> None:
    (function,) = load(minimal("chat"), "fn.yaml")

    assert function.full_name == "default/chat"
    assert function.spec.model == RegistryReference("models", "x")
    assert (function.spec.task, function.spec.slo.class_, function.spec.scale.autoscaler) == (
        "generate",
        "interactive",
        "pilotlight",
    )
    assert (function.spec.scale.min, function.spec.scale.max) == (0, 1)
    assert function.spec.scale.keep_alive == Duration(300_000)
    assert function.spec.engine.overrides() == {}


def test_several_documents_are_read_in_order_and_empty_ones_skipped() -> None:
    text = f"---\n{minimal('a')}---\n---\n# nothing\n---\n{minimal('b')}...\n"

    assert [function.metadata.name for function in load(text, "fn.yaml")] == ["a", "b"]


def test_json_is_read_as_well() -> None:
    document = {
        "apiVersion": "pilotlight.dev/v1alpha1",
        "kind": "Function",
        "metadata": {"name": "chat"},
        "spec": {"model": "s3://models/x"},
    }

    assert load(json.dumps(document), "fn.json") == (parse(document, "body"),)


def test_a_function_twice_is_refused() -> None:
    with pytest.raises(
        ManifestError, match=r"fn.yaml:8: metadata.name: function default/a is there twice, first in line 3"
    ):
        load(f"{minimal('a')}---\n{minimal('a')}", "fn.yaml")


def test_the_same_name_in_two_namespaces_is_fine() -> None:
    other = minimal("a").replace("name: a", "name: a, namespace: team-b")

    assert len(load(f"{minimal('a')}---\n{other}", "fn.yaml")) == 2


@pytest.mark.parametrize("text", ["", "\n\n", "---\n---\n", "# only a comment\n", "null\n"])
def test_an_empty_file_is_refused(text: str) -> None:
    with pytest.raises(ManifestError, match="is empty"):
        load(text, "fn.yaml")


def _bomb() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("#" * 2**20 + "\n", "at most 1048576", id="too large"),
        pytest.param("[" * 100_000, "nests deeper", id="too deep"),
        pytest.param(_bomb(), "aliases make it too large", id="an alias bomb"),
        pytest.param("a: &a [*a]", "aliases make it too large or endless", id="an endless alias"),
        pytest.param("- 1\n" * 200_000, "more than 50000 values", id="too many values"),
        pytest.param("a: !!python/object/apply:os.system [ls]", "has the tag python/object", id="a tag that runs code"),
        pytest.param("a: !secret x", "has the tag !secret", id="a tag of its own"),
        pytest.param("? [a, b]\n: c", "a key that is not a plain word", id="a key that is a list"),
        pytest.param("a: &x {b: 1}\nc: {<<: *x}", "a key that is not a plain word", id="a merge key"),
        pytest.param("a: *unknown", "undefined alias", id="an unknown alias"),
        pytest.param("a:\n\t- b", "is not YAML", id="tabs"),
        pytest.param("\x00", "is not YAML", id="a control character"),
        pytest.param("\ud800", "not valid Unicode", id="half a character"),
        pytest.param("a: 0b2", "unknown field", id="no binary number"),
        pytest.param("a: 0o9_", "unknown field", id="no octal number"),
        pytest.param("- 1", "is a list; expected a mapping", id="a list"),
        pytest.param("text", 'is "text"; expected a mapping', id="a word"),
    ],
)
def test_hostile_and_mistaken_texts_are_refused(text: str, said: str) -> None:
    with pytest.raises(ManifestError) as error:
        load(text, "fn.yaml")

    assert said in str(error.value)


def test_an_alias_that_is_used_twice_is_read_twice() -> None:
    text = minimal("a").replace("{name: a}", "{name: &n a, labels: {app: *n}}")

    assert load(text, "fn.yaml")[0].metadata.labels == {"app": "a"}


@settings(max_examples=300)
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises(ManifestError) as error:
        load(text, "fn.yaml")

    assert error.value.items


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)


@given(st.sampled_from(["metadata", "spec", "kind"]), json_values)
def test_any_json_is_read_or_refused(field: str, value: object) -> None:
    document: dict[str, object] = {
        "apiVersion": "pilotlight.dev/v1alpha1",
        "kind": "Function",
        "metadata": {"name": "a"},
        "spec": {"model": "s3://models/x"},
    }
    with pytest.raises(ManifestError):
        parse(document | {field: value}, "body")


durations = st.integers(1, 10**9).map(Duration).map(str)
specs = st.fixed_dictionaries(
    {"model": st.sampled_from(["s3://models/x", "s3://models/team/y:v2", "hf://org/name@main"])},
    optional={
        "task": st.just("generate"),
        "slo": st.fixed_dictionaries({"class": st.just("batch")}, optional={"deadline": durations})
        | st.fixed_dictionaries({}, optional={"ttft": durations, "itl": durations}),
        "scale": st.fixed_dictionaries(
            {"min": st.integers(0, 3), "max": st.integers(3, 9)}, optional={"keepAlive": durations}
        ),
        "resources": st.fixed_dictionaries(
            {},
            optional={
                "cpu": st.floats(0.1, 64),
                "memory": st.sampled_from(["4Gi", "500M", 12345]),
                "accelerator": st.just("nvidia-h100"),
            },
        ),
        "adapters": st.just([{"name": "legal", "model": "s3://models/l:v1"}]),
        "engine": st.fixed_dictionaries(
            {},
            optional={
                "maxModelLen": st.integers(1, 10**6),
                "kvCacheMemoryBytes": st.sampled_from(["1Gi", 4096]),
                "enablePrefixCaching": st.booleans(),
                "dtype": st.sampled_from(["auto", "float32"]),
                "trustRemoteCode": st.booleans(),
                "defaultChatTemplateKwargs": st.dictionaries(
                    st.text(max_size=5), st.booleans() | st.none(), max_size=2
                ),
            },
        ),
    },
)


@given(specs)
def test_a_function_reads_back_as_it_was_written(spec: dict[str, object]) -> None:
    document = {
        "apiVersion": "pilotlight.dev/v1alpha1",
        "kind": "Function",
        "metadata": {"name": "a"},
        "spec": spec,
    }
    function = parse(document, "body")

    written = function.to_dict()

    assert parse(written, "body") == function
    assert load(yaml.safe_dump(written), "fn.yaml") == (function,)
    assert parse(written, "body").to_dict() == written
    assert parse(written, "body").spec.engine.overrides() == function.spec.engine.overrides()


def test_a_function_cannot_be_changed() -> None:
    (function,) = load(minimal("a"), "fn.yaml")

    with pytest.raises(ValueError, match="frozen"):
        function.spec.task = "embed"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_are_valid(example: Path) -> None:
    assert all(isinstance(function, Function) for function in load(example.read_text(), example.name))
