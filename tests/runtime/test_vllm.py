"""The vLLM seam: command lines, environments, log lines. What real vLLM makes of them is in test_real_vllm.py."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.runtime.engines import engine_of
from pilotlight.runtime.engines.protocol import BadEngineSpecError, Place, Signal
from pilotlight.runtime.engines.vllm import CODE_OPTIONS, RESERVED, command, environment
from pilotlight.runtime.engines.vllm_log import cause, read
from pilotlight.runtime.spec import EngineSpec, Phase, ReplicaSpec

_SPEC = ReplicaSpec(
    replica="r",
    function="team-a/chat",
    revision="1",
    task="generate",
    store="file:///models",
    model="sha256:" + "0" * 64,
    served_names=("team-a/chat", "chat"),
    engine=EngineSpec("vllm", key="engine-secret"),
)
_PLACE = Place(Path("/cache/model"), {}, 4242)


def _after(line: tuple[str, ...], flag: str) -> str:
    return line[line.index(flag) + 1]


def _with(options: dict[str, object] | None = None, environment: dict[str, str] | None = None) -> ReplicaSpec:
    return replace(_SPEC, engine=EngineSpec("vllm", options or {}, environment or {}, "engine-secret"))


def test_the_engine_listens_on_loopback_only_under_the_functions_names() -> None:
    line = command(_SPEC, _PLACE)
    assert Path(line[0]).is_absolute()
    assert (_after(line, "--host"), _after(line, "--port")) == ("127.0.0.1", "4242")
    names = line.index("--served-model-name")
    assert line[names + 1 : names + 3] == ("team-a/chat", "chat")


def test_the_key_is_in_the_environment_and_in_no_argument() -> None:
    assert not any("engine-secret" in argument for argument in command(_SPEC, _PLACE))
    assert environment(_SPEC, {})["VLLM_API_KEY"] == "engine-secret"


def test_on_a_processor_the_engine_computes_in_float32_and_eagerly() -> None:
    line = command(_SPEC, _PLACE)
    assert "--dtype=float32" in line
    assert "--enforce-eager" in line


def test_options_become_flags_and_win_over_our_defaults() -> None:
    options: dict[str, object] = {
        "max_model_len": 4096,
        "dtype": "float16",
        "enforce_eager": False,
        "seed": None,
        "enable_chunked_prefill": True,
        "compilation_config": {"mode": 0},
        "language_model": ["a", "b"],
        "rope_theta": -1,
    }
    line = command(_with(options), _PLACE)
    assert {"--max-model-len=4096", "--dtype=float16", "--enable-chunked-prefill", "--rope-theta=-1"} <= set(line)
    assert not {"--enforce-eager", "--seed", "--dtype=float32"} & set(line)
    assert json.loads(_after(line, "--compilation-config")) == {"mode": 0}
    assert line[line.index("--language-model") + 1 :][:2] == ("a", "b")


@pytest.mark.parametrize("option", sorted(RESERVED | CODE_OPTIONS))
def test_options_that_would_open_the_engine_or_load_code_are_refused(option: str) -> None:
    with pytest.raises(BadEngineSpecError, match=option):
        command(_with({option: "x"}), _PLACE)


@pytest.mark.parametrize("name", ["VLLM_API_KEY", "VLLM_SERVER_DEV_MODE", "VLLM_PLUGINS", "LD_PRELOAD"])
def test_environment_that_would_open_the_engine_or_load_code_is_refused(name: str) -> None:
    with pytest.raises(BadEngineSpecError, match=name):
        environment(_with(environment={name: "1"}), {})


def test_secrets_of_the_platform_do_not_reach_the_engine() -> None:
    inherited = {
        "PATH": "/bin",
        "AWS_SECRET_ACCESS_KEY": "s",
        "PILOTLIGHT_KEY": "pl-1",
        "HF_TOKEN": "t",
        "VLLM_SERVER_DEV_MODE": "1",
        "VLLM_API_KEY": "other",
    }
    found = environment(_SPEC, inherited)
    assert found["PATH"] == "/bin"
    assert found["VLLM_API_KEY"] == "engine-secret"
    assert not found.keys() & {"AWS_SECRET_ACCESS_KEY", "PILOTLIGHT_KEY", "HF_TOKEN", "VLLM_SERVER_DEV_MODE"}


def test_threads_are_bound_as_the_spec_says_and_never_as_vllm_would() -> None:
    pinned = environment(replace(_SPEC, cpus=(2, 3), threads=2), {})
    assert (pinned["VLLM_CPU_OMP_THREADS_BIND"], pinned["OMP_NUM_THREADS"]) == ("2,3", "2")
    assert environment(_SPEC, {})["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"


def test_kv_space_is_the_specs_and_never_most_of_the_machine() -> None:
    inherited = {"VLLM_CPU_KVCACHE_SPACE": "64"}
    assert environment(_SPEC, inherited)["VLLM_CPU_KVCACHE_SPACE"] == "1"
    told = environment(_with({"kv_cache_memory_bytes": 2**28}), inherited)
    assert "VLLM_CPU_KVCACHE_SPACE" not in told  # it would win over the option


def test_bytecode_is_kept_wherever_it_can_be() -> None:
    assert "PYTHONDONTWRITEBYTECODE" not in environment(_SPEC, {"PYTHONDONTWRITEBYTECODE": "1"})


def test_devices_are_assigned_by_uuid_and_shared_by_bytes() -> None:
    spec = replace(_with({"kv_cache_memory_bytes": 2**30}), devices=("GPU-aaaa", "GPU-bbbb"))
    line, found = command(spec, _PLACE), environment(spec, {})
    assert found["CUDA_VISIBLE_DEVICES"] == "GPU-aaaa,GPU-bbbb"
    assert {"--tensor-parallel-size=2", f"--kv-cache-memory-bytes={2**30}"} <= set(line)
    assert not {"--dtype=float32", "--enforce-eager"} & set(line)
    assert not {"VLLM_CPU_OMP_THREADS_BIND", "VLLM_CPU_KVCACHE_SPACE"} & found.keys()


def test_an_embedder_is_run_as_one_and_warmed_on_its_route() -> None:
    spec = replace(_SPEC, task="embed")
    assert "--runner=pooling" in command(spec, _PLACE)
    (request,) = engine_of("vllm").warmups(spec)
    assert (request.method, request.target) == ("POST", "/v1/embeddings")
    assert json.loads(request.body)["model"] == "team-a/chat"


@pytest.fixture
def with_adapters(tmp_path: Path) -> Place:
    for name, rank in (("legal", 12), ("medical", 33)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(json.dumps({"r": rank}))
    return replace(_PLACE, adapters={name: tmp_path / name for name in ("legal", "medical")})


def test_adapters_are_served_with_the_smallest_rank_the_engine_has_for_them(with_adapters: Place) -> None:
    line = command(_SPEC, with_adapters)
    assert {"--enable-lora", "--max-lora-rank=64", "--max-loras=2"} <= set(line)
    assert line[-2:] == tuple(f"{name}={folder}" for name, folder in with_adapters.adapters.items())


def test_bounds_of_adapters_that_the_function_sets_are_kept(with_adapters: Place) -> None:
    line = command(_with({"max_loras": 1, "max_lora_rank": 128}), with_adapters)
    assert {argument for argument in line if argument.startswith("--max-lora")} == {
        "--max-lora-rank=128",
        "--max-loras=1",
    }


@pytest.mark.parametrize("config", ["", "{}", '{"r": 0}', '{"r": true}', '{"r": 513}'])
def test_an_adapter_without_a_rank_that_the_engine_has_is_refused(tmp_path: Path, config: str) -> None:
    (tmp_path / "adapter_config.json").write_text(config)
    with pytest.raises(BadEngineSpecError, match="adapter"):
        command(_SPEC, replace(_PLACE, adapters={"a": tmp_path}))


def test_an_unknown_kind_of_engine_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadEngineSpecError, match="'llama' is unknown: expected one of vllm, simulated"):
        engine_of("llama")


_WORKER = "(Worker pid=6107) INFO 11-24 06:14:06 "


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (_WORKER + "[cpu_model_runner.py:68] Starting to load model /cache/model...", Signal(Phase.LOAD)),
        ("Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:01<00:01]", Signal(Phase.LOAD, 0.5)),
        (_WORKER + "[default_loader.py:501] Loading weights took 1.48 seconds", Signal(Phase.WARMUP)),
        ("(EngineCore pid=1) INFO [kv_cache_utils.py:2327] CPU KV cache size: 23,296 tokens", Signal(Phase.WARMUP)),
        ("INFO:     Application startup complete.", None),
    ],
)
def test_phases_are_read_from_the_log(line: str, said: Signal | None) -> None:
    assert read(line) == said


@given(st.text(), st.lists(st.text(), max_size=5), st.none() | st.integers(-64, 255))
def test_no_line_breaks_the_reading(line: str, lines: list[str], exit_code: int | None) -> None:
    read(line)
    assert cause(lines, exit_code)


@pytest.mark.parametrize(
    ("lines", "exit_code", "expected"),
    [
        pytest.param(["OSError: [Errno 98] Address already in use"], 1, "port was taken", id="port"),
        pytest.param(
            ["api_server.py: error: unrecognized arguments: --max-modl-len=3"], 2, "--max-modl-len=3", id="option"
        ),
        pytest.param(["error: argument --dtype: invalid choice: 'int3'"], 2, "argument --dtype", id="value"),
        pytest.param([], -9, "ran out of memory", id="killed"),
        pytest.param([], 3, "exit status 3", id="silent"),
        pytest.param(
            ["ERROR [core.py:1] RuntimeError: odd", "RuntimeError: odd"], 1, "RuntimeError: odd", id="last error"
        ),
        pytest.param(
            [
                "(Worker pid=1) ERROR 11-24 06:47:06 [multiproc_executor.py:950] KeyError: 'odd'",
                "(EngineCore pid=2) ERROR 11-24 06:47:08 [core.py:1510] Exception: WorkerProc initialization failed",
                "RuntimeError: Engine core initialization failed. See root cause above.",
            ],
            1,
            "the engine failed: KeyError: 'odd'",
            id="root cause",
        ),
        pytest.param(
            ["(Worker pid=1) ERROR 11-24 [x.py:9]     assert loaded_weight.shape[output_dim] == self.org_vocab_size"],
            1,
            "the model's weights do not match its config.json: assert loaded_weight.shape",
            id="vocabulary",
        ),
        pytest.param(["OSError: [Errno 28] No space left on device"], 1, "the disk is full", id="disk"),
        pytest.param([], None, "does not answer", id="hangs"),
    ],
)
def test_a_failed_start_has_a_cause_in_a_sentence(lines: list[str], exit_code: int | None, expected: str) -> None:
    assert expected in cause(lines, exit_code)
