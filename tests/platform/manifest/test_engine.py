"""The engine section is vLLM's own: names and choices are compared with its source, which is not imported."""

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest

from pilotlight.platform.manifest import Engine, load, parse
from pilotlight.platform.manifest.docs import render
from pilotlight.platform.manifest.engine import RESERVED
from pilotlight.platform.manifest.model import Function
from pilotlight.runtime.simulated.options import read_options

OURS = {"kind", "simulated"}


@cache
def _vllm() -> Path:
    spec = find_spec("vllm")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0])


def _fields(file: str, *classes: str) -> set[str]:
    tree = ast.parse((_vllm() / file).read_text())
    found = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    return {
        item.target.id
        for name in classes
        for item in found[name].body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }


def _choices(file: str, name: str) -> set[object]:
    for node in ast.parse((_vllm() / file).read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            return {leaf.value for leaf in ast.walk(node.value) if isinstance(leaf, ast.Constant)}
    raise AssertionError(f"{name} is not in {file}")


def test_every_option_is_one_of_vllms() -> None:
    known = _fields("engine/arg_utils.py", "EngineArgs") | _fields(
        "entrypoints/launchers/cli_args.py", "BaseFrontendArgs"
    )

    assert set(Engine.model_fields) - OURS <= known


@pytest.mark.parametrize(
    ("option", "file", "name"),
    [
        ("dtype", "config/model.py", "ModelDType"),
        ("tokenizer_mode", "config/model.py", "TokenizerMode"),
        ("logprobs_mode", "config/model.py", "LogprobsMode"),
        ("kv_cache_dtype", "config/cache.py", "CacheDType"),
        ("max_lora_rank", "config/lora.py", "MaxLoRARanks"),
        ("performance_mode", "config/vllm.py", "PerformanceMode"),
        ("quantization", "model_executor/layers/quantization/__init__.py", "QuantizationMethods"),
    ],
)
def test_every_choice_is_one_of_vllms(option: str, file: str, name: str) -> None:
    annotation = Engine.model_fields[option].annotation
    ours = next(get_args(part) for part in get_args(annotation) if get_origin(part) is Literal)

    assert set(ours) <= _choices(file, name)


def test_nothing_reserved_can_be_set() -> None:
    settable = {field.alias for field in Engine.model_fields.values()}

    assert settable.isdisjoint(RESERVED)


def _engine(text: str) -> Engine:
    head = "apiVersion: pilotlight.dev/v1alpha1\nkind: Function\nmetadata: {name: a}\n"
    (function,) = load(f"{head}spec: {{model: 's3://models/x', engine: {text}}}", "fn.yaml")
    return function.spec.engine


def test_overrides_have_vllms_names_and_plain_values() -> None:
    engine = _engine("{maxModelLen: 4096, kvCacheMemoryBytes: 1Gi, trustRemoteCode: true, dtype: float32}")

    assert engine.overrides() == {
        "max_model_len": 4096,
        "kv_cache_memory_bytes": 2**30,
        "trust_remote_code": True,
        "dtype": "float32",
    }


def test_a_flag_that_is_on_by_default_is_switched_off_by_its_opposite() -> None:
    assert _engine("{enablePrefixCaching: false}").overrides() == {
        "enable_prefix_caching": False,
        "no_enable_prefix_caching": True,
    }


def test_the_simulated_engine_takes_what_the_manifest_says_of_it() -> None:
    engine = _engine("{kind: simulated, seed: 3, simulated: {timeScale: 0, meanTokens: 12}}")

    options = read_options(engine.overrides())

    assert (options.simulated_time_scale, options.simulated_mean_tokens, options.seed) == (0.0, 12, 3)


def test_the_schema_of_the_api_comes_from_the_same_models() -> None:
    schema = Function.model_json_schema()

    assert schema["required"] == ["apiVersion", "kind", "metadata", "spec"]
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Spec"]["required"] == ["model"]
    assert "keepAlive" in schema["$defs"]["Scale"]["properties"]


def test_the_reference_is_current() -> None:
    page = Path(__file__).parents[3] / "docs" / "manifest.md"

    assert page.read_text() == render(), "run: python -m pilotlight.platform.manifest.docs > docs/manifest.md"


def test_the_reference_names_every_engine_option() -> None:
    page = render()

    assert all(f"| `{field.alias or name}` |" in page for name, field in Engine.model_fields.items())


def test_parse_and_load_agree_on_the_engine() -> None:
    document = {
        "apiVersion": "pilotlight.dev/v1alpha1",
        "kind": "Function",
        "metadata": {"name": "a"},
        "spec": {"model": "s3://models/x", "engine": {"seed": 7}},
    }

    assert parse(document, "body").spec.engine == _engine("{seed: 7}")
