"""The assembled platform with real vLLM and a real model: one story, told in order, since starts are dear.

Each test leaves the function warm or says so; three cold starts serve all of them.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from pilotlight.platform.registry.refs import ModelRef
from pilotlight.platform.registry.registry import Registry
from pilotlight.runtime.stores import open_store

if TYPE_CHECKING:
    from tests.platform.embedded.conftest import Up

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

REF = "s3://models/smollm2-135m-instruct:v1"
PATIENCE = 600.0
ASKED = "What is the capital of France? Then count from one to ten in words."
TOKENS = 32
GREEDY = textwrap.dedent("""
    import json, sys
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    folder, asked, tokens = sys.argv[1], sys.argv[2], int(sys.argv[3])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    chat = [{"role": "user", "content": asked}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    whole = model.generate(**prompt, max_new_tokens=tokens, do_sample=False)[0].tolist()
    print(json.dumps(whole[prompt["input_ids"].shape[1]:]))
""")

Wait = Callable[..., Any]


@pytest.fixture(scope="module")
def served(up: Up, smollm2: Path) -> Up:
    """The function `chat` at zero, on a model in the platform's own registry."""
    folder = up.state / "registry" / "models"
    folder.mkdir(parents=True, exist_ok=True)
    Registry(open_store(f"file://{folder}"), "models").push(smollm2, ModelRef.parse(REF))
    made = up.deploy("chat", **spec("10m"))
    assert made.status_code == 200, made.text
    return up


def spec(keep_alive: str) -> dict[str, Any]:
    return {"model": REF, "engine": {"kind": "vllm", "maxModelLen": 1024}, "scale": {"max": 1, "keepAlive": keep_alive}}


@pytest.fixture(scope="module")
def greedy(smollm2: Path) -> list[int]:
    """What transformers answers, token by token."""
    command = [sys.executable, "-c", GREEDY, str(smollm2), ASKED, str(TOKENS)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    ids: list[int] = json.loads(done.stdout.splitlines()[-1])
    return ids


def events(up: Up, **changes: Any) -> Generator[dict[str, Any]]:
    """The data events of a streamed chat; leaving the iterator early disconnects the client."""
    url = f"{up.url}/f/team-a/chat/v1/chat/completions"
    body = up.body(stream=True, temperature=0, **changes)
    with (
        httpx.Client(timeout=PATIENCE, trust_env=False) as client,
        client.stream("POST", url, json=body, headers=up.headers()) as answer,
    ):
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                yield json.loads(line.removeprefix("data: "))


def ask(up: Up, question: str, tokens: int) -> list[int]:
    """The token ids of a streamed answer."""
    chat = {"messages": [{"role": "user", "content": question}], "max_tokens": tokens, "return_token_ids": True}
    choices = [choice for event in events(up, **chat) for choice in event.get("choices", [])]
    return [token for choice in choices for token in choice.get("token_ids") or []]


def leave_while_held(up: Up) -> None:
    """Send a request and close the connection once it is held."""
    body = json.dumps(up.body(stream=True)).encode()
    head = f"POST /f/team-a/chat/v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {up.key}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    port = int(up.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(head.encode() + body)
        assert b": " in connection.recv(65536)


def row(up: Up, **facts: Any) -> dict[str, Any] | None:
    """The newest ledger row with these facts."""
    rows = up.items("usage/rows", function="team-a/chat", limit=1000)
    return next((row for row in rows if facts.items() <= row.items()), None)


def test_fifty_at_zero_are_answered_by_one_start_and_as_transformers_does(
    served: Up, greedy: list[int], wait_until: Wait
) -> None:
    assert served.processes() == []
    with concurrent.futures.ThreadPoolExecutor(51) as pool:
        first = pool.submit(ask, served, ASKED, TOKENS)
        rest = [pool.submit(ask, served, "What is the capital of France?", 8) for _ in range(49)]
        leave_while_held(served)
        cancelled = wait_until(lambda: row(served, outcome="cancelled"))

        assert first.result() == greedy
        assert all(len(future.result()) == 8 for future in rest)

    assert len(served.replicas("chat")) == 1
    assert (cancelled["completion_tokens"], cancelled["cold"]) == (0, True)
    wait_until(lambda: not row(served, outcome="running"))
    [total] = served.items("usage", by="function", function="team-a/chat")
    assert (total["requests"], total["ok"], total["completion_tokens"]) == (51, 50, len(greedy) + 49 * 8)


def test_a_warm_answer_is_the_cold_one(served: Up, greedy: list[int]) -> None:
    assert ask(served, ASKED, TOKENS) == greedy
    assert len(served.replicas("chat")) == 1


def test_a_client_that_leaves_while_streaming_stops_the_engine_and_is_metered(served: Up, wait_until: Wait) -> None:
    stream = events(served, max_tokens=900, ignore_eos=True)
    seen = [next(stream) for _ in range(5)]
    assert len(seen) == 5
    stream.close()

    wait_until(lambda: served.function("chat")["in_flight"] == 0)
    left = wait_until(lambda: row(served, outcome="cancelled", cold=False))
    assert 3 <= left["completion_tokens"] < 900
    assert left["prompt_tokens"] > 0


def test_a_prompt_beyond_the_context_is_refused_as_the_engine_words_it(served: Up) -> None:
    long = [{"role": "user", "content": "word " * 2000}]
    answer = served.chat("chat", messages=long)
    assert answer.status_code == 400
    assert "maximum context length is 1024 tokens" in answer.json()["error"]["message"]


def test_a_kill_of_the_engine_mid_stream_ends_the_stream_with_an_error_and_its_tokens_are_metered(
    served: Up, wait_until: Wait
) -> None:
    [replica] = served.live("chat")
    stream = events(served, max_tokens=900, ignore_eos=True)
    passed = [next(stream) for _ in range(5)]
    os.kill(replica["engine_pid"], signal.SIGKILL)
    passed += list(stream)

    assert "error" in passed[-1]
    told = sum(bool((choice.get("delta") or {}).get("content")) for e in passed for choice in e.get("choices", []))
    failed = wait_until(lambda: row(served, outcome="failed"))
    assert failed["completion_tokens"] >= told > 0
    wait_until(lambda: replica["id"] not in [live["id"] for live in served.live("chat")])


def test_a_kill_of_the_idle_engine_costs_the_next_request_only_time(served: Up, greedy: list[int]) -> None:
    assert ask(served, ASKED, TOKENS) == greedy  # starts again after the kill before
    [replica] = served.live("chat")
    os.kill(replica["engine_pid"], signal.SIGKILL)

    assert ask(served, ASKED, TOKENS) == greedy

    [again] = served.live("chat")
    assert again["id"] != replica["id"]


def test_a_killed_platform_comes_back_with_its_replica_its_functions_and_its_ledger(
    served: Up, greedy: list[int], wait_until: Wait
) -> None:
    [before] = served.live("chat")
    requests = len(served.items("usage/rows", limit=1000))
    stream = events(served, max_tokens=900, ignore_eos=True)
    passed = [next(stream) for _ in range(3)]
    wait_until(lambda: (row(served, outcome="running") or {}).get("completion_tokens", 0) >= len(passed) - 1)
    seen = (row(served, outcome="running") or {})["completion_tokens"]
    served.kill()
    with pytest.raises(httpx.TransportError):
        list(stream)

    served.start()

    cut = row(served, outcome="unknown")
    assert cut is not None
    assert cut["completion_tokens"] >= seen > 0
    assert ask(served, ASKED, TOKENS) == greedy
    [after] = served.live("chat")
    assert after["engine_pid"] == before["engine_pid"]
    rows = served.items("usage/rows", limit=1000)
    assert len(rows) == requests + 2
    assert len({entry["request"] for entry in rows}) == len(rows)


def test_zero_leaves_no_process(served: Up, wait_until: Wait) -> None:
    changed = served.deploy("chat", **spec("1s"))
    assert changed.json()["items"][0]["revision"] == "chat-00001"
    wait_until(lambda: served.live("chat") == [])
    wait_until(lambda: served.processes() == [])
