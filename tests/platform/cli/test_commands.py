"""Every command against a real platform with the simulated engine."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml

from pilotlight.activator.values import FunctionId
from pilotlight.platform.cli.describe import page
from pilotlight.platform.database.connection import Database
from pilotlight.platform.database.recommendations import Recommendations
from pilotlight.recommender.proposals import Proposal


class Result(Protocol):
    """How a command ended."""

    code: int
    out: str
    err: str


Cli = Callable[..., Result]
Until = Callable[[Callable[[], bool], str], None]

SECOND = """\
apiVersion: pilotlight.dev/v1alpha1
kind: Function
metadata: {name: NAME, namespace: team-a}
spec:
  model: s3://models/chat:v1
  scale: {min: MIN, max: 2}
  engine: {kind: simulated, simulated: {meanTokens: 12}}
"""


def manifest(name: str, least: int = 0) -> str:
    return SECOND.replace("NAME", name).replace("MIN", str(least))


def good(result: Result) -> str:
    assert result.code == 0, result.err
    return result.out


# Deploying


def test_deploying_tells_what_changed_and_why_it_is_sized_so(here: Cli) -> None:
    first = good(here("deploy", "-f", "-", stdin=manifest("told"))).splitlines()
    again = good(here("deploy", "-f", "-", stdin=manifest("told"))).splitlines()
    more = good(here("deploy", "-f", "-", stdin=manifest("told").replace("max: 2", "max: 3"))).splitlines()

    assert first[0] == "team-a/told created (told-00001)"
    assert first[1:]
    assert all(line.startswith("  ") for line in first[1:])
    assert again == ["team-a/told unchanged (told-00001)"]
    assert more[0] == "team-a/told updated (told-00001)"


def test_waiting_returns_when_the_minimum_is_ready(here: Cli) -> None:
    ended = here("deploy", "-f", "-", "--wait", stdin=manifest("ready", least=1))

    assert ended.code == 0
    assert "team-a/ready: 1 ready" in ended.err
    [row] = [row for row in json.loads(good(here("get", "functions", "--json"))) if row["name"] == "ready"]
    assert row["ready"] == 1
    good(here("delete", "team-a/ready"))


def test_what_only_the_platform_can_refuse_is_2_too(here: Cli) -> None:
    refused = here("deploy", "-f", "-", stdin=manifest("absent").replace("kind: simulated, ", ""))

    assert refused.code == 2
    assert refused.err.startswith("error: ")
    assert "absent" not in good(here("get", "functions"))


def test_a_deleted_function_is_gone(here: Cli) -> None:
    good(here("deploy", "-f", "-", stdin=manifest("short-lived")))

    assert good(here("delete", "team-a/short-lived")) == "team-a/short-lived deleted\n"
    assert "short-lived" not in good(here("get", "functions"))


@pytest.mark.parametrize("command", ["delete", "describe", "logs", "call"])
def test_an_unknown_function_is_1_with_the_nearest_name(command: str, here: Cli) -> None:
    words = ["hello"] if command == "call" else []

    ended = here(command, "chatt", *words)

    assert ended.code == 1
    assert ended.err == "error: there is no function default/chatt; did you mean default/chat?\n"


def test_a_name_without_its_namespace_is_asked_back(here: Cli) -> None:
    good(here("deploy", "-f", "-", stdin=manifest("elsewhere")))

    assert "did you mean team-a/elsewhere?" in here("describe", "elsewhere").err


# Calling


def test_a_call_from_zero_streams_its_answer_and_sums_up_on_stderr(here: Cli) -> None:
    good(here("deploy", "-f", "-", stdin=manifest("cold")))

    ended = here("call", "team-a/cold", "Hello there")

    assert ended.code == 0
    assert ended.out.strip()
    assert re.fullmatch(r"cold: start .+, first token after .+; \d+ prompt \+ \d+ answer tokens in .+\n", ended.err), (
        ended.err
    )


def test_a_call_as_json_holds_phases_timings_and_usage(here: Cli) -> None:
    slow = manifest("json").replace(
        "meanTokens: 12", "meanTokens: 12, loadSeconds: 3"
    )  # a held stream is told after 1 s
    good(here("deploy", "-f", "-", stdin=slow))

    told = json.loads(good(here("call", "team-a/json", "--json", "--max-tokens", "5", "--system", "Be brief", "Hi")))

    assert told["cold"] is True
    assert told["phases"]
    assert told["pilotlight"]["replica"]
    assert told["usage"]["completion_tokens"] == 5
    assert told["headers"]["x-pilotlight-start"] == "cold"
    assert told["text"]


def test_the_prompt_may_come_on_stdin_and_a_second_call_is_warm(here: Cli) -> None:
    good(here("call", "chat", "--no-progress", stdin="Hello\n"))

    assert here("call", "chat", stdin="Hello\n").err.startswith("warm: ")


def test_an_embedding_is_shown_by_its_size_and_first_values(here: Cli) -> None:
    embedder = manifest("vectors").replace("spec:", "spec:\n  task: embed")
    good(here("deploy", "-f", "-", stdin=embedder))

    shown = good(here("call", "team-a/vectors", "some text"))
    told = json.loads(good(here("call", "team-a/vectors", "--json", "some text")))

    dimensions = len(told["embedding"])
    assert re.fullmatch(rf"{dimensions} dimensions: -?\d\.\d{{4}}, .*\n", shown)


def test_a_refused_request_is_told_in_the_platforms_words(here: Cli) -> None:
    ended = here("call", "chat", "Hi", "--max-tokens", "100000000")

    assert ended.code == 2
    assert "max_tokens" in ended.err


# Looking


KINDS = {
    "functions": {"namespace", "name", "task", "model", "revision", "ready", "min", "max", "created_at"},
    "revisions": {"namespace", "function", "name", "digest", "options", "slots", "reasons"},
    "replicas": {"id", "function", "revision", "state", "phases", "caused_by"},
    "models": {"reference", "digest", "modified"},
    "keys": {"id", "name", "admin", "namespaces", "functions", "revoked_at"},
    "decisions": {"at", "function", "desired", "reason", "sentence", "inputs"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_listed_as_a_table_as_json_and_as_yaml(kind: str, here: Cli, model: Path) -> None:
    good(here("models", "push", str(model), "s3://models/listed:v1"))
    good(here("call", "chat", "wake up"))

    heading, *lines = good(here("get", kind)).splitlines()
    rows = json.loads(good(here("get", kind, "--json")))

    assert heading == heading.upper()
    assert len(lines) == len(rows) > 0
    assert KINDS[kind] <= rows[0].keys()
    assert yaml.safe_load(good(here("get", kind, "-o", "yaml")))[0].keys() == rows[0].keys()
    assert "secret" not in str(rows)
    assert "hash" not in rows[0]


def test_without_recommendations_it_says_so(here: Cli) -> None:
    assert here("get", "recommendations").err.strip() == "no recommendations"
    assert json.loads(good(here("get", "recommendations", "--function", "chat", "--json"))) == []


def test_replicas_and_decisions_can_be_of_one_function(here: Cli) -> None:
    good(here("call", "chat", "wake up"))

    rows = json.loads(good(here("get", "decisions", "--function", "chat", "--limit", "1", "--json")))

    assert [row["function"] for row in rows] == ["chat"]
    assert here("get", "models", "--function", "chat").code == 2


def test_a_function_is_described_on_a_page(here: Cli) -> None:
    good(here("call", "chat", "wake up"))

    shown = good(here("describe", "chat"))

    assert shown.startswith("default/chat\n")
    assert "1 ready, 0 starting, 0 to 1 allowed" in shown
    assert "Sized so:" in shown
    assert re.search(r"  URL: +http://127\.0\.0\.1:\d+/f/default/chat/v1\n", shown)
    assert "\nReplicas\n" in shown
    assert "\nDecisions\n" in shown
    assert json.loads(good(here("describe", "chat", "--json")))["function"]["name"] == "chat"


def test_a_description_has_what_was_learned(here: Cli, platform_state: Path) -> None:
    chat, limit = FunctionId("default", "chat"), Proposal("engine.maxNumSeqs", 256, 96, 80, 110, "ITL is 60 ms")
    assert "\nRecommendations: none\n" in good(here("describe", "chat"))
    database = Database.at(platform_state / "pilotlight.db")
    rows = Recommendations(database)
    rows.propose(chat, "chat-00001", [limit], 1.0)
    try:
        shown, told = good(here("describe", "chat")), json.loads(good(here("describe", "chat", "--json")))
    finally:
        rows.propose(chat, "chat-00001", (), 2.0)
        database.close()

    assert re.search(r"\nRecommendations\n.*\n.* engine.maxNumSeqs +256 +96 +80 +110 +ITL is 60 ms", shown)
    assert [row["proposed"] for row in told["recommendations"]] == [96]
    assert told["cap"] is None
    assert not any("Cap:" in line for line in page(told, ""))
    assert "  Cap:         12 in flight in a replica, as learned" in page({**told, "cap": 12}, "")


def test_the_log_of_an_engine_can_be_read_and_followed(here: Cli, platform_state: Path) -> None:
    good(here("call", "chat", "wake up"))
    assert good(here("logs", "chat", "--tail", "1000")).strip()
    command = [sys.executable, "-m", "pilotlight.platform.cli", "logs", "-f", "chat"]
    environment = {**os.environ, "PILOTLIGHT_STATE": str(platform_state)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as following:
        assert following.stdout is not None
        assert following.stdout.readline()

        following.send_signal(signal.SIGINT)
        _, err = following.communicate(timeout=60)

    assert (following.returncode, err) == (130, b"")


def test_no_log_is_said_on_stderr(here: Cli) -> None:
    good(here("deploy", "-f", "-", stdin=manifest("silent")))

    ended = here("logs", "team-a/silent")

    assert (ended.code, ended.out) == (0, "")
    assert ended.err == "no log yet: no replica of team-a/silent has run\n"


def test_usage_tells_how_requests_ended_that_were_not_answered(here: Cli) -> None:
    assert here("call", "chat", "too much", "--max-tokens", "1000000").code == 2

    [title, *rows] = good(here("usage", "--by", "function")).splitlines()

    assert title.endswith("  NOT OK")
    assert re.search(r"  \d+ rejected", next(row for row in rows if row.startswith("default/chat ")))


def test_usage_is_summed_by_function_key_and_day(here: Cli) -> None:
    good(here("call", "chat", "count me"))

    by = {group: json.loads(good(here("usage", "--by", group, "--json"))) for group in ("function", "key", "day")}

    assert "default/chat" in [row["group"] for row in by["function"]]
    totals = {group: sum(row["completion_tokens"] for row in rows) for group, rows in by.items()}
    assert len(set(totals.values())) == 1
    assert good(here("usage")).startswith("FUNCTION ")


# Keys


def test_a_keys_secret_is_alone_on_stdout_and_works_until_it_is_revoked(
    here: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = here("keys", "create", "ci", "--namespace", "default")
    secret = made.out.strip()
    assert secret.startswith("pl-")
    [row] = [row for row in json.loads(good(here("keys", "list", "--json"))) if row["id"] in made.err]

    monkeypatch.setenv("PILOTLIGHT_KEY", secret)
    assert "team-a" not in good(here("get", "functions"))
    good(here("call", "chat", "Hi"))
    assert here("keys", "list").code == 1

    monkeypatch.delenv("PILOTLIGHT_KEY")
    assert good(here("keys", "revoke", row["id"])) == f"{row['id']} revoked\n"
    monkeypatch.setenv("PILOTLIGHT_KEY", secret)
    assert "does not accept this key" in here("get", "functions").err


def test_a_key_of_one_function_may_call_it_but_not_delete_it(here: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = json.loads(good(here("keys", "create", "one", "--function", "default/chat", "--json")))
    monkeypatch.setenv("PILOTLIGHT_KEY", told["secret"])

    good(here("call", "chat", "Hi"))
    refused = here("delete", "chat")

    assert refused.code == 1
    assert "may not manage" in refused.err


def test_a_key_without_a_scope_is_refused(here: Cli) -> None:
    assert here("keys", "create", "loose").code == 2


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        (("--admin", "--namespace", "team-a"), "error: --admin allows everything: give it alone"),
        (("--namespace", "Team_A"), "error: --namespace is 'Team_A'; expected NAMESPACE of lower-case letters"),
        (("--function", "chat"), "error: --function is 'chat'; expected NAMESPACE/NAME of lower-case letters"),
    ],
)
def test_a_scope_that_means_nothing_is_refused(scope: tuple[str, ...], said: str, here: Cli) -> None:
    refused = here("keys", "create", "odd", *scope)

    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith(said)


# Models


def safetensors(values: bytes) -> bytes:
    header = json.dumps({"embed": {"dtype": "U8", "shape": [len(values)], "data_offsets": [0, len(values)]}}).encode()
    return len(header).to_bytes(8, "little") + header + values


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "hidden_size": 4}')
    (folder / "model.safetensors").write_bytes(safetensors(b"abcd"))
    return folder


def test_a_model_goes_there_and_comes_back(here: Cli, model: Path, tmp_path: Path) -> None:
    told = json.loads(good(here("models", "push", str(model), "s3://models/there:v1", "--json")))
    good(here("models", "tag", "s3://models/there:v1", "stable"))
    good(here("models", "pull", "s3://models/there:stable", str(tmp_path / "back")))

    rows = {row["reference"]: row["digest"] for row in json.loads(good(here("models", "list", "--json")))}
    assert rows["s3://models/there:v1"] == rows["s3://models/there:stable"] == told["digest"]
    assert told["digest"] in good(here("models", "verify", f"s3://models/there@{told['digest']}"))
    for file in model.iterdir():
        assert (tmp_path / "back" / file.name).read_bytes() == file.read_bytes()


def test_ctrl_c_ends_a_push_quietly_and_the_next_one_goes_on(
    here: Cli, model: Path, platform_state: Path, chaos_proxy: Callable[[str], Any], until: Until
) -> None:
    for number in range(20):
        (model / f"note-{number}.txt").write_text(f"note {number} of an interrupted push")
    proxy = chaos_proxy(json.loads((platform_state / "up.json").read_text())["url"])
    proxy.delay = 0.2
    command = [sys.executable, "-m", "pilotlight.platform.cli", "--url", proxy.url, "models", "push", str(model)]
    environment = {**os.environ, "PILOTLIGHT_STATE": str(platform_state)}
    with subprocess.Popen(
        [*command, "s3://models/interrupted:v1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as pushing:
        until(lambda: "PUT" in [method for method, path in proxy.requests if "/blobs/" in path], "the first upload")

        pushing.send_signal(signal.SIGINT)
        out, err = pushing.communicate(timeout=60)

    assert (pushing.returncode, out, err) == (130, b"", b"")
    assert "interrupted" not in good(here("models", "list"))
    good(here("models", "push", str(model), "s3://models/interrupted:v1"))
    assert "is right: 22 files" in good(here("models", "verify", "s3://models/interrupted:v1"))


def test_a_local_hub_folder_can_be_imported(here: Cli, model: Path) -> None:
    (model / "pytorch_model.bin").write_bytes(b"left out")

    good(here("models", "import", str(model), "s3://models/imported:v1"))

    assert "s3://models/imported:v1" in good(here("models", "list"))


def test_a_folder_that_is_no_model_is_refused_with_all_that_is_wrong(here: Cli, model: Path) -> None:
    (model / "config.json").unlink()
    (model / "weights.pkl").write_bytes(b"\x80\x04.")

    ended = here("models", "push", str(model), "s3://models/refused:v1")

    assert ended.code == 1
    assert "nothing was uploaded" in ended.err
    assert "config.json" in ended.err
    assert "weights.pkl" in ended.err


def test_a_damaged_model_is_found_out(here: Cli, model: Path, platform_state: Path) -> None:
    (model / "model.safetensors").write_bytes(safetensors(b"to be damaged"))
    good(here("models", "push", str(model), "s3://models/damaged:v1"))
    [blob] = [
        path
        for path in (platform_state / "registry" / "models" / "blobs").rglob("*")
        if path.is_file() and path.read_bytes().endswith(b"to be damaged")
    ]
    blob.chmod(0o600)
    blob.write_bytes(blob.read_bytes().replace(b"damaged", b"DAMAGED"))

    ended = here("models", "verify", "s3://models/damaged:v1")

    assert ended.code == 1
    assert ended.err.startswith("error: s3://models/damaged:v1 is damaged; give --repair, then push it again\n")


def test_a_collection_tells_what_it_took(here: Cli) -> None:
    told = json.loads(good(here("models", "gc", "--grace", "1h", "--json")))

    assert told["complete"] is True
    assert here("models", "gc", "--grace", "1 fortnight").code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["models", "pull", "s3://models/nothing:v1", "."], id="pull"),
        pytest.param(["models", "verify", "s3://models/nothing:v1"], id="verify"),
        pytest.param(["models", "tag", "s3://models/nothing:v1", "v2"], id="tag"),
    ],
)
def test_a_model_that_is_not_there_is_1(arguments: list[str], here: Cli) -> None:
    ended = here(*arguments)

    assert ended.code == 1
    assert "s3://models/nothing:v1 is not in the registry" in ended.err


# The platform itself


def test_a_second_platform_on_the_folder_says_where_the_first_is(here: Cli) -> None:
    ended = here("up", "--port", "0")

    assert ended.code == 1
    assert re.search(r"a platform runs on .* already, at http://127.0.0.1:\d+", ended.err)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["--host", "0.0.0.0"], "not loopback", id="open to the network"),
        pytest.param(["--memory", "lots"], "--memory: ", id="no size"),
        pytest.param(["--drain", "5"], "expected a duration with a unit, as 500ms", id="no unit"),
    ],
)
def test_up_refuses_what_it_cannot_use(arguments: list[str], said: str, cli: Cli) -> None:
    ended = cli("up", *arguments)

    assert ended.code == 2
    assert said in ended.err


def test_a_taken_port_says_what_to_do(here: Cli, scripted: Any, tmp_path: Path) -> None:
    ended = here("up", "--state", str(tmp_path / "other"), "--port", scripted.url.rpartition(":")[2])

    assert ended.code == 1
    assert "cannot be listened on (Address already in use); choose another --port" in ended.err
