"""vLLM's own command line takes every option of the manifest as the runtime writes it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest

from pilotlight.platform.manifest import Engine, parse
from pilotlight.runtime.engines.protocol import Place
from pilotlight.runtime.engines.vllm import command
from pilotlight.runtime.spec import EngineSpec, ReplicaSpec

# Prints what vLLM understood; its server parses by the same two calls (entrypoints/openai/api_server.py).
PARSE = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = make_arg_parser(FlexibleArgumentParser())
print("parsed " + json.dumps([vars(parser.parse_args(line)) for line in json.load(sys.stdin)], default=str))
"""
SAMPLES: dict[str, object] = {
    "toolCallParser": "hermes",
    "reasoningParser": "qwen3",
    "kvCacheMemoryBytes": "1Gi",
    "overrideGenerationConfig": {"temperature": 0.5, "top_k": 5},
    "defaultChatTemplateKwargs": {"enable_thinking": False},
    "limitMmPerPrompt": {"image": 2},
    "gpuMemoryUtilization": 0.5,
    "watermark": 0.1,
    "cpuOffloadGb": 1.5,
    "maxNumSeqs": 8,
    "maxNumBatchedTokens": 512,
}


def _sample(name: str, annotation: object) -> object:
    if name in SAMPLES:
        return SAMPLES[name]
    for part in get_args(annotation):
        if get_origin(part) is Literal:
            return get_args(part)[-1]
        if part is bool:
            return True
    return annotation is bool or 1


SET = {
    str(field.alias): _sample(str(field.alias), field.annotation)
    for name, field in Engine.model_fields.items()
    if name not in ("kind", "simulated")
}


def _engine(options: dict[str, object]) -> Engine:
    document = {
        "apiVersion": "pilotlight.dev/v1alpha1",
        "kind": "Function",
        "metadata": {"name": "a"},
        "spec": {
            "model": "s3://models/x",
            "resources": {"accelerator": "nvidia-h100"},
            "adapters": [{"name": "b", "model": "s3://models/y"}],
            "engine": options,
        },
    }
    return parse(document, "body").spec.engine


@pytest.mark.engine
def test_vllm_understands_every_option_as_it_was_meant(tmp_path: Path) -> None:
    switched_off: dict[str, object] = {"enable_prefix_caching": False, "enable_chunked_prefill": False}
    chosen = [
        _engine(SET).overrides(),
        _engine({"enablePrefixCaching": False, "enableChunkedPrefill": False}).overrides(),
    ]
    place = Place(model=tmp_path, adapters={}, port=1)
    lines = [
        command(ReplicaSpec("r", "default/a", "a-1", "generate", "", "", ("a",), EngineSpec("vllm", options)), place)
        for options in chosen
    ]

    done = subprocess.run(
        [sys.executable, "-c", PARSE],
        input=json.dumps([line[3:] for line in lines]),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    first, second = json.loads(done.stdout.split("parsed ", 1)[1])
    assert {name: first[name] for name in chosen[0]} == chosen[0]
    assert {name: second[name] for name in switched_off} == switched_off


def test_the_sample_covers_every_option() -> None:
    assert len(_engine(SET).overrides()) == len(Engine.model_fields) - 2
