"""What a writer is told: every mistake, its place, what was expected and what was probably meant."""

import pytest

from pilotlight.platform.manifest import ManifestError, load, parse

HEAD = "apiVersion: pilotlight.dev/v1alpha1\nkind: Function\nmetadata: {name: chat}\nspec:\n  model: s3://models/x\n"


def refused(text: str) -> list[str]:
    with pytest.raises(ManifestError) as error:
        load(text, "fn.yaml")
    return str(error.value).splitlines()


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        pytest.param(
            "  scale: {maxx: 1}",
            'fn.yaml:6: spec.scale.maxx: unknown field; did you mean "max"?',
            id="a misspelt field",
        ),
        pytest.param(
            "  maxModelLen: 5",
            'fn.yaml:6: spec.maxModelLen: unknown field; did you mean "spec.engine.maxModelLen"?',
            id="a field in the wrong place",
        ),
        pytest.param(
            "  engine: {max_model_len: 5}",
            'fn.yaml:6: spec.engine.max_model_len: unknown field; did you mean "maxModelLen"?',
            id="vLLM's own spelling",
        ),
        pytest.param(
            "  slo: {x: 1}",
            "fn.yaml:6: spec.slo.x: unknown field; expected class, ttft, itl, deadline",
            id="a field like no other",
        ),
        pytest.param(
            "  engine: {apiKey: x}",
            "fn.yaml:6: spec.engine.apiKey: cannot be set: the platform decides where the engine listens"
            " and who may reach it",
            id="an option that would open the engine",
        ),
        pytest.param(
            "  slo: {class: interactve}",
            'fn.yaml:6: spec.slo.class: is "interactve"; expected interactive or batch; did you mean "interactive"?',
            id="a misspelt choice",
        ),
        pytest.param(
            "  scale: {keepAlive: 300}",
            "fn.yaml:6: spec.scale.keepAlive: 300 has no unit; expected a duration with a unit, as 500ms, 2s, 5m, 1h or"
            ' 1h30m; did you mean "300s"?',
            id="a duration without its unit",
        ),
        pytest.param(
            "  scale:\n    min: 3\n    max: 2",
            "fn.yaml:7: spec.scale.min: 3 is more than max, 2; expected at most 2, or a larger max",
            id="more at least than at most",
        ),
        pytest.param(
            "  scale: {max: '4'}", 'fn.yaml:6: spec.scale.max: is "4"; expected a whole number', id="a number in quotes"
        ),
        pytest.param("  scale: {max: 0}", "fn.yaml:6: spec.scale.max: is 0; expected at least 1", id="out of bounds"),
        pytest.param(
            "  scale: {max: 1.5}", "fn.yaml:6: spec.scale.max: is 1.5; expected a whole number", id="a fraction"
        ),
        pytest.param(
            "  scale:",
            "fn.yaml:6: spec.scale: is empty; expected a mapping of fields, or leave it out",
            id="an empty section",
        ),
        pytest.param(
            "  slo: {class: batch, ttft: 1s}",
            "fn.yaml:6: spec.slo.ttft: does not go with class batch; expected deadline with it",
            id="an interactive promise for batch",
        ),
        pytest.param(
            "  slo: {deadline: 1h}",
            "fn.yaml:6: spec.slo.deadline: does not go with class interactive; expected ttft and itl with it",
            id="a batch promise for interactive",
        ),
        pytest.param(
            "  resources: {count: 2}",
            "fn.yaml:6: spec.resources.count: counts accelerators, but none is named; expected accelerator beside it",
            id="a count of nothing",
        ),
        pytest.param(
            "  adapters: [{name: a, model: s3://models/y}, {name: a, model: s3://models/z}]",
            'fn.yaml:6: spec.adapters[1].name: "a" is there twice; expected a name of its own',
            id="an adapter twice",
        ),
        pytest.param(
            "  adapters: [{name: legal, model: s3://models/y}, {name: chat, model: s3://models/z}]",
            "fn.yaml:6: spec.adapters[1].name: is the function's own name; expected another name",
            id="an adapter named as its function",
        ),
        pytest.param(
            "  adapters: [{name: '', model: s3://models/y}]",
            'fn.yaml:6: spec.adapters[0].name: is ""; expected at least 1 character',
            id="an adapter without a name",
        ),
        pytest.param(
            "  engine: {simulated: {}}",
            "fn.yaml:6: spec.engine.simulated: the engine is vllm; expected kind: simulated beside it,"
            " or no simulated section",
            id="simulation of a real engine",
        ),
        pytest.param(
            "  engine: {enableAutoToolChoice: true}",
            "fn.yaml:6: spec.engine.enableAutoToolChoice: needs a parser for the model's calls;"
            " expected toolCallParser beside it",
            id="tools without a parser",
        ),
        pytest.param(
            "  engine: {gpuMemoryUtilization: 0.5}",
            "fn.yaml:6: spec.engine.gpuMemoryUtilization: is about accelerators, but none is named;"
            " expected resources.accelerator",
            id="a GPU's option without a GPU",
        ),
        pytest.param(
            "  engine: {maxLoras: 2}",
            "fn.yaml:6: spec.engine.maxLoras: is about adapters, but there are none; expected spec.adapters",
            id="an adapter's option without adapters",
        ),
        pytest.param(
            "  resources: {accelerator: nvidia-h100, count: 2}\n  engine: {tensorParallelSize: 4}",
            "fn.yaml:7: spec.engine.tensorParallelSize: 4 differs from resources.count, 2; expected the same",
            id="two numbers of devices",
        ),
        pytest.param(
            "  engine: {maxNumSeqs: 64, maxNumBatchedTokens: 32}",
            "fn.yaml:6: spec.engine.maxNumBatchedTokens: 32 is less than maxNumSeqs, 64;"
            " expected a token for each request at least",
            id="fewer tokens than requests",
        ),
        pytest.param(
            "  engine: {overrideGenerationConfig: {stop: [1]}}",
            "fn.yaml:6: spec.engine.overrideGenerationConfig.stop: is a list;"
            " expected text or a whole number or a number or true or false",
            id="all types that a field takes, in one line",
        ),
        pytest.param(
            "  model: s3://models/y",
            "fn.yaml:6: spec.model: is there twice, first in line 5; expected it once",
            id="a field twice",
        ),
        pytest.param(
            "  engine: {maxModelLen: .inf}",
            "fn.yaml:6: spec.engine.maxModelLen: is inf; expected a whole number",
            id="infinity",
        ),
    ],
)
def test_a_mistake_is_told_in_one_line(spec: str, said: str) -> None:
    assert refused(HEAD + spec + "\n") == [said]


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        pytest.param(
            "{name: no}",
            'metadata.name: is false; expected text; YAML reads the bare word no as false: write "no" in quotes',
            id="a bare no",
        ),
        pytest.param(
            "{name: 123}",
            'metadata.name: is 123; expected text; YAML reads 123 as a number: write "123" in quotes',
            id="a bare number",
        ),
        pytest.param(
            "{name: Chat_1}",
            'metadata.name: is "Chat_1"; expected lower-case letters, digits and hyphens, beginning and ending with a'
            " letter or digit",
            id="not a DNS label",
        ),
        pytest.param(f"{{name: {'x' * 64}}}", "expected at most 63 characters", id="a long name"),
        pytest.param("{}", "metadata.name: is missing", id="no name"),
    ],
)
def test_a_name_that_cannot_be_one(metadata: str, said: str) -> None:
    (line,) = refused(HEAD.replace("{name: chat}", metadata))

    assert line.startswith("fn.yaml:3: ")
    assert said in line


def test_a_name_ending_in_a_line_break_is_refused() -> None:
    (line,) = refused(HEAD.replace("chat", '"chat\\n"'))

    assert line.startswith('fn.yaml:3: metadata.name: is "chat\\n"; expected lower-case')


def test_quoted_words_are_text() -> None:
    (function,) = load(HEAD.replace("name: chat", 'name: "no"'), "fn.yaml")

    assert function.metadata.name == "no"


def test_a_date_is_text() -> None:
    (function,) = load(HEAD.replace("{name: chat}", "{name: chat, annotations: {since: 2026-01-31}}"), "fn.yaml")

    assert function.metadata.annotations == {"since": "2026-01-31"}


def test_all_mistakes_of_all_documents_are_told_in_their_order() -> None:
    text = HEAD + "  scale: {maxx: 1, min: -1}\n---\n" + HEAD.replace("Function", "Funktion") + "  slo: {itl: 5}\n"

    lines = refused(text)

    assert [line.split(": ")[:2] for line in lines] == [
        ["fn.yaml:6", "spec.scale.maxx"],
        ["fn.yaml:6", "spec.scale.min"],
        ["fn.yaml:9", "kind"],
        ["fn.yaml:13", "spec.slo.itl"],
    ]


def test_documents_before_a_syntax_error_are_told_too() -> None:
    lines = refused(HEAD + "  scal: {}\n---\na: [\n")

    assert lines[0].startswith("fn.yaml:6: spec.scal: unknown field")
    assert "is not YAML" in lines[1]
    assert len(lines) == 2


def test_findings_carry_their_place_as_data() -> None:
    with pytest.raises(ManifestError) as error:
        load(HEAD + "  scale: {min: 0, maxx: 1}\n", "fn.yaml")

    (finding,) = error.value.items
    assert (finding.source, finding.line, finding.column) == ("fn.yaml", 6, 19)
    assert (finding.field, finding.did_you_mean) == ("spec.scale.maxx", "max")


def test_of_many_mistakes_the_first_hundred_are_told() -> None:
    lines = refused(HEAD + "".join(f"  x{number}: 1\n" for number in range(5000)))

    assert len(lines) == 101
    assert lines[0].startswith("fn.yaml:6: spec.x0: ")
    assert lines[-1] == "fn.yaml: has more mistakes than these 100"


def test_json_values_are_told_without_lines() -> None:
    with pytest.raises(ManifestError) as error:
        parse({"apiVersion": "pilotlight.dev/v1alpha1", "kind": "Function", "spec": {"model": 5}}, "body")

    lines = str(error.value).splitlines()
    assert lines[0] == "body: metadata: is missing; expected a mapping with the function's name"
    assert lines[1].startswith("body: spec.model: 5 is not a model reference")


@pytest.mark.parametrize("content", [None, [], "text", 5], ids=["null", "list", "text", "number"])
def test_json_that_is_no_mapping_is_refused(content: object) -> None:
    with pytest.raises(ManifestError, match="expected a mapping"):
        parse(content, "body")
