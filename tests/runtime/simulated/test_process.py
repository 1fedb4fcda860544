"""The process: its phases, its refusals, its end."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import httpx
import pytest

from pilotlight.runtime.simulated.launch import command, environment
from pilotlight.runtime.simulated.options import OptionError, Options, read_options
from pilotlight.runtime.simulated.start import StartFailedError, start

Spawn = Callable[..., "subprocess.Popen[str]"]
Endpoint = Callable[["subprocess.Popen[str]"], str]
Until = Callable[[Callable[[], bool], str], None]


def _phases(lines: list[str]) -> list[tuple[str, float]]:
    found = (re.fullmatch(r"pilotlight-simulated phase=(\w+) progress=([\d.]+)", line) for line in lines)
    return [(match[1], float(match[2])) for match in found if match]


def test_phases_come_in_order_and_their_progress_rises_to_one() -> None:
    lines: list[str] = []
    slept: list[float] = []
    options = read_options({"simulated_load_seconds": 4, "simulated_warmup_seconds": 1, "simulated_time_scale": 0.5})
    start(options, lines.append, slept.append)
    told = _phases(lines)

    assert list(dict.fromkeys(phase for phase, _ in told)) == ["import", "load", "warmup"]
    for phase in ("import", "load", "warmup"):
        progress = [value for name, value in told if name == phase]
        assert progress == sorted(progress)
        assert (progress[0], progress[-1]) == (0, 1)
    assert sum(slept) == pytest.approx(2.5)


def test_a_failing_start_ends_within_its_phase() -> None:
    lines: list[str] = []
    options = read_options({"simulated_fail_phase": "load", "simulated_fail_code": 7, "simulated_fail_message": "no"})
    with pytest.raises(StartFailedError, match="no") as raised:
        start(options, lines.append, lambda _: None)

    assert raised.value.code == 7
    assert _phases(lines)[-1][0] == "load"


def test_a_failing_process_says_why_and_exits_with_the_status(spawn: Spawn) -> None:
    process = spawn(simulated_fail_phase="warmup", simulated_fail_code=42, simulated_fail_message="out of memory")
    _, log = process.communicate(timeout=60)

    assert process.returncode == 42
    assert log.splitlines()[-1] == "pilotlight-simulated: out of memory"


def test_a_process_serves_with_its_key_and_ends_on_sigterm(spawn: Spawn, endpoint: Endpoint) -> None:
    process = spawn(key="secret")
    url = endpoint(process)

    assert httpx.get(f"{url}/v1/models").status_code == 401
    assert httpx.get(f"{url}/v1/models", headers={"authorization": "Bearer secret"}).status_code == 200
    process.terminate()
    process.wait(30)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")


def test_a_signal_throttles_it_and_another_one_ends_that(spawn: Spawn, endpoint: Endpoint, until: Until) -> None:
    process = spawn(simulated_time_scale=1, simulated_decode_base_seconds=3600, simulated_throttle=0)
    url = endpoint(process)

    def answers(seconds: float) -> bool:
        try:
            body = {"prompt": "x", "max_tokens": 3, "ignore_eos": True}
            return httpx.post(f"{url}/v1/completions", json=body, timeout=seconds).status_code == 200
        except httpx.ReadTimeout:
            return False

    process.send_signal(signal.SIGUSR1)
    until(lambda: answers(1.0), "an answer without the hour's wait")
    process.send_signal(signal.SIGUSR1)
    until(lambda: not answers(0.2), "the hour's wait")


def test_a_terminated_process_does_not_wait_for_a_stream_that_never_ends(
    spawn: Spawn, endpoint: Endpoint, until: Until
) -> None:
    process = spawn(simulated_stall_requests=1)
    url = endpoint(process)
    with ThreadPoolExecutor(1) as threads:
        stalled = threads.submit(httpx.post, f"{url}/v1/completions", json={"prompt": "x"}, timeout=60)
        until(lambda: bool(httpx.get(f"{url}/load").json()["server_load"] == 1), "the request's arrival")
        process.terminate()
        process.wait(30)
        with pytest.raises(httpx.TransportError):
            stalled.result()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("simulated_load_second=1", "did you mean simulated_load_seconds?"),
        ("max_num_seqs=none", "option max_num_seqs = 'none'"),
        ("max_num_seqs", "write NAME=VALUE"),
        ("simulated_time_scale=-1", "greater than or equal to 0"),
    ],
)
def test_wrong_options_end_it_with_status_2(option: str, words: str) -> None:
    line = [sys.executable, "-m", "pilotlight.runtime.simulated", "--served-model-name", "chat", "--option", option]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert words in done.stderr


def test_the_command_line_carries_known_options_and_never_the_key() -> None:
    options = {"max_num_seqs": 8, "dtype": "float32", "enable_prefix_caching": False, "seed": None}
    line = command(1234, ["chat", "team/chat"], options, ["legal"])

    assert line[1:7] == ["-m", "pilotlight.runtime.simulated", "--host", "127.0.0.1", "--port", "1234"]
    assert line[7:9] == ["--served-model-name", "chat,team/chat"]
    assert line[9:] == ["--adapter", "legal", "--option", "enable_prefix_caching=false", "--option", "max_num_seqs=8"]
    assert environment("secret") == {"VLLM_API_KEY": "secret"}
    assert environment("") == {}


def test_the_command_refuses_what_the_engine_would() -> None:
    with pytest.raises(OptionError, match="did you mean simulated_jitter"):
        command(1, ["chat"], {"simulated_jiter": 0.1})


def test_options_read_from_a_command_line_are_those_given() -> None:
    given = {
        "max_num_seqs": 3,
        "simulated_jitter": 0.25,
        "enable_prefix_caching": False,
        "simulated_fail_message": "a=b",
    }
    line = command(1, ["chat"], given)
    texts = [text for flag, text in pairwise(line) if flag == "--option"]
    read = read_options(dict(text.split("=", 1) for text in texts))

    assert read == Options.model_validate(given)
