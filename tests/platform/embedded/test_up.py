"""The assembled platform: from zero and back, exactly one start, restarts, rollouts, evictions, crashes."""

from __future__ import annotations

import concurrent.futures
import signal
import threading
from collections.abc import Callable
from typing import Any

import httpx
import psutil
import pytest

from pilotlight.platform.database.connection import Database
from pilotlight.platform.database.replicas import Replicas

Make = Callable[..., Any]
Wait = Callable[..., Any]
SIMULATED = "simulated"


def engine(**simulated: Any) -> dict[str, Any]:
    return {"kind": SIMULATED, "simulated": {"meanTokens": 1000, **simulated}}


def test_from_zero_to_an_answer_and_back_to_zero(make_up: Make, wait_until: Wait) -> None:
    up = make_up()
    made = up.deploy("chat", scale={"keepAlive": "1s"})
    assert made.json()["items"][0]["change"] == "created"
    assert up.processes() == []

    answer = up.chat("chat")

    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"]
    assert answer.headers["x-pilotlight-start"] == "cold"
    [row] = up.items("usage/rows")
    assert (row["outcome"], row["cold"], row["completion_tokens"], row["status"]) == ("ok", True, 4, 200)
    assert row["prompt_tokens"] == answer.json()["usage"]["prompt_tokens"]
    assert row["start_seconds"] > 0
    wait_until(lambda: up.live("chat") == [])
    wait_until(lambda: up.processes() == [])
    reasons = [decision["reason"] for decision in up.items("decisions", function="team-a/chat")]
    assert reasons[0] in ("idle", "idle_zero")
    assert "demand" in reasons


def test_a_start_longer_than_the_keep_alive_is_finished_for_whoever_was_told_to_come_back(
    make_up: Make, wait_until: Wait
) -> None:
    up = make_up()
    up.deploy("slow", scale={"keepAlive": "2s"}, engine=engine(loadSeconds=4))
    url = "/f/team-a/slow/v1/chat/completions"

    refused = up.ask("POST", url, json=up.body(), headers={"x-request-deadline": "500ms"})

    assert refused.status_code == 503, refused.text
    assert refused.json()["error"]["code"] == "deadline_exceeded"
    assert int(refused.headers["retry-after"]) > 0
    wait_until(lambda: up.replicas("slow") and not up.live("slow"))
    [replica] = up.replicas("slow")
    assert replica["state"] == "stopped"

    def idle() -> dict[str, Any]:
        [row] = up.items("usage", by="function")
        return row if row["replica_idle_seconds"] > 0 else {}

    row = wait_until(idle)
    assert row["replica_starting_seconds"] > 4
    assert row["replica_idle_seconds"] >= 1.5


def test_a_start_that_is_expected_to_take_longer_than_ten_minutes_is_waited_for(make_up: Make) -> None:
    up = make_up()
    up.deploy("long")
    digest = up.function("long")["digest"]
    up.stop()
    database = Database.at(up.state / "pilotlight.db")
    Replicas(database).started("long-00001-before", digest, SIMULATED, {"load": 900.0}, 1.0)
    database.close()
    up.start()
    expected = up.ask("GET", "/api/v1alpha1/functions/team-a/long/describe").json()

    answer = up.chat("long")

    assert answer.status_code == 200, answer.text
    assert sum(expected["start_eta_seconds"].values()) >= 900


def test_fifty_at_zero_are_answered_by_exactly_one_start(up: Any) -> None:
    up.deploy("fifty", scale={"max": 1}, engine=engine(loadSeconds=0.5))

    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: up.chat("fifty"), range(50)))

    assert [answer.status_code for answer in answers] == [200] * 50
    assert len(up.replicas("fifty")) == 1
    assert len(up.items("usage/rows", function="team-a/fifty")) == 50
    [total] = up.items("usage", by="function", function="team-a/fifty")
    assert (total["group"], total["requests"], total["ok"]) == ("team-a/fifty", 50, 50)


def test_no_more_than_allowed_are_held(make_up: Make) -> None:
    up = make_up(max_held=2)
    up.deploy("chat", scale={"max": 1}, engine=engine(loadSeconds=3))

    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: up.chat("chat"), range(5)))

    assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429, 429]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["error"]["code"] == "queue_full"
    assert "2 may" in refused.json()["error"]["message"]
    assert int(refused.headers["retry-after"]) > 0


def test_a_platform_that_ends_is_not_ready_while_its_streams_finish(make_up: Make, wait_until: Wait) -> None:
    up = make_up(shutdown_seconds=60)
    up.deploy("chat", engine=engine(decodeBaseSeconds=0.1, meanTokens=10_000))
    assert up.ask("GET", "/readyz").status_code == 200
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(up.chat, "chat", max_tokens=100)
        wait_until(lambda: up.function("chat")["in_flight"] == 1)
        up.process.send_signal(signal.SIGTERM)

        def refused() -> str:
            answer = up.ask("GET", "/readyz")
            return answer.text if answer.status_code == 503 else ""

        assert wait_until(refused) == "the platform ends\n"
        assert running.result().status_code == 200


def test_a_second_platform_on_the_same_folder_is_refused(up: Any) -> None:
    with pytest.raises(RuntimeError, match=r"a platform runs on .* already, at http"):
        type(up)(up.state)


class TestKill9:
    def test_replicas_are_adopted_and_end_with_the_platform_that_adopted_them(self, make_up: Make) -> None:
        up = make_up()
        up.deploy("chat")
        assert up.chat("chat").status_code == 200
        [before] = up.live("chat")
        up.kill()
        assert psutil.pid_exists(before["engine_pid"])

        up.start()

        [after] = up.live("chat")
        assert (after["id"], after["engine_pid"]) == (before["id"], before["engine_pid"])
        answer = up.chat("chat")
        assert answer.status_code == 200
        assert answer.headers["x-pilotlight-start"] == "warm"
        assert len(up.replicas("chat")) == 1
        assert [row["outcome"] for row in up.items("usage/rows")] == ["ok", "ok"]
        assert up.processes()

        assert up.stop() == 0

        assert up.processes() == []

    def test_a_stream_under_way_has_its_row_with_the_last_counts(self, make_up: Make, wait_until: Wait) -> None:
        up = make_up()
        up.deploy("chat", engine=engine(decodeBaseSeconds=0.1, meanTokens=10_000))
        url = f"{up.url}/f/team-a/chat/v1/chat/completions"
        body = up.body(stream=True, max_tokens=2000)
        with (
            httpx.Client(timeout=60, trust_env=False) as client,
            client.stream("POST", url, json=body, headers=up.headers()) as answer,
        ):
            lines = answer.iter_lines()
            wait_until(lambda: next(lines).startswith("data: "))
            wait_until(lambda: up.items("usage/rows")[0]["completion_tokens"] > 2)
            seen = up.items("usage/rows")[0]["completion_tokens"]
            up.kill()

        up.start()

        [row] = up.items("usage/rows")
        assert row["outcome"] == "unknown"
        assert row["completion_tokens"] >= seen

    def test_a_replica_that_nobody_wants_any_more_ends(self, make_up: Make, wait_until: Wait) -> None:
        up = make_up()
        up.deploy("chat", scale={"keepAlive": "1s"})
        assert up.chat("chat").status_code == 200
        up.kill()

        up.start()

        wait_until(lambda: up.live("chat") == [])
        wait_until(lambda: up.processes() == [])
        assert up.live("chat") == []


def test_a_rollout_has_no_gap(up: Any, wait_until: Wait) -> None:
    up.deploy("rolled", scale={"min": 1})
    wait_until(lambda: up.function("rolled")["ready"] == 1)
    stop, statuses, revisions = threading.Event(), [], []

    def call() -> None:
        while not stop.is_set():
            answer = up.chat("rolled")
            statuses.append((answer.status_code, answer.headers.get("x-pilotlight-start")))
            revisions.append(answer.headers.get("x-pilotlight-revision"))

    caller = threading.Thread(target=call)
    caller.start()
    changed = up.deploy("rolled", scale={"min": 1}, engine=engine(loadSeconds=0.5, dimensions=64)).json()["items"][0]
    assert (changed["change"], changed["revision"]) == ("updated", "rolled-00002")
    wait_until(lambda: revisions and revisions[-1] == "rolled-00002")
    wait_until(lambda: [replica["revision"] for replica in up.live("rolled")] == ["rolled-00002"])
    stop.set()
    caller.join()

    assert set(statuses) == {(200, "warm")}
    assert set(revisions) == {"rolled-00001", "rolled-00002"}


def test_an_identical_apply_changes_nothing_and_a_policy_no_engine(up: Any) -> None:
    up.deploy("same", scale={"max": 2})

    assert up.deploy("same", scale={"max": 2}).json()["items"][0]["change"] == "unchanged"
    changed = up.deploy("same", scale={"max": 3}).json()["items"][0]

    assert (changed["change"], changed["revision"]) == ("updated", "same-00001")
    assert up.function("same")["max"] == 3


def test_the_least_recently_used_function_makes_way(make_up: Make) -> None:
    up = make_up(memory_bytes=600 * 2**20)
    for name in ("first", "second", "third"):
        assert up.deploy(name).status_code == 200
    assert up.chat("first").status_code == 200
    assert up.chat("second").status_code == 200

    answer = up.chat("third")

    assert answer.status_code == 200
    assert [len(up.live(name)) for name in ("first", "second", "third")] == [0, 1, 1]
    [evicted] = [d for d in up.items("decisions", function="team-a/first") if d["reason"] == "evicted"]
    assert evicted["sentence"] == "idle, makes way for team-a/third"
    assert up.chat("first").status_code == 200


def test_what_is_busy_is_never_evicted(make_up: Make, wait_until: Wait) -> None:
    up = make_up(memory_bytes=300 * 2**20)
    up.deploy("busy", engine=engine(decodeBaseSeconds=0.1, meanTokens=10_000))
    up.deploy("wants")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        long = pool.submit(up.chat, "busy", max_tokens=30)
        wait_until(lambda: up.function("busy")["in_flight"] == 1)
        wanting = pool.submit(up.chat, "wants")
        wait_until(lambda: up.function("wants")["waits"])
        assert "nothing idle can make way" in up.function("wants")["waits"]
        assert not long.done()

        assert long.result().status_code == 200
        assert wanting.result().status_code == 200


def test_a_start_that_fails_backs_off_and_says_why(up: Any, wait_until: Wait) -> None:
    up.deploy("failing", engine=engine(failPhase="load", failMessage="no such weights"))

    answer = up.chat("failing")

    assert answer.status_code == 503
    assert "no such weights" in answer.json()["error"]["message"]
    assert int(answer.headers["retry-after"]) >= 1
    wait_until(lambda: "no such weights" in up.function("failing")["failure"])
    failed = [replica for replica in up.replicas("failing") if replica["state"] == "failed"]
    assert "no such weights" in failed[0]["message"]
    assert "back_off" in [decision["reason"] for decision in up.items("decisions", function="team-a/failing")]
    log = up.ask("GET", "/api/v1alpha1/functions/team-a/failing/logs", params={"tail": 50})
    assert "no such weights" in log.text


def test_an_engine_that_is_killed_is_replaced(up: Any, wait_until: Wait) -> None:
    up.deploy("killed", scale={"min": 1})
    wait_until(lambda: up.function("killed")["ready"] == 1)
    [before] = up.live("killed")
    psutil.Process(before["engine_pid"]).kill()

    wait_until(lambda: [r["id"] for r in up.live("killed")] not in ([], [before["id"]]))
    assert up.chat("killed").status_code == 200
    assert up.function("killed")["failure"] == ""
    [backed_off] = [d for d in up.items("decisions", function="team-a/killed") if d["reason"] == "back_off"]
    assert backed_off["sentence"].startswith("a replica died while serving")


def test_a_deleted_function_is_gone_and_its_usage_stays(up: Any, wait_until: Wait) -> None:
    up.deploy("deleted")
    assert up.chat("deleted").status_code == 200

    assert up.ask("DELETE", "/api/v1alpha1/functions/team-a/deleted").status_code == 204

    wait_until(lambda: up.live("deleted") == [])
    assert up.chat("deleted").status_code == 404
    assert [row["outcome"] for row in up.items("usage/rows", function="team-a/deleted")] == ["ok"]
    trail = [entry["action"] for entry in up.items("audit") if entry["target"] == "team-a/deleted"]
    assert trail == ["delete", "apply"]
    assert up.deploy("deleted").json()["items"][0]["revision"] == "deleted-00002"


def test_replica_seconds_are_split_and_name_the_key_that_caused_them(up: Any, wait_until: Wait) -> None:
    up.deploy("timed", scale={"keepAlive": "1s"}, engine=engine(loadSeconds=0.3, decodeBaseSeconds=0.05))
    made = up.ask("POST", "/api/v1alpha1/keys", json={"name": "timed", "namespaces": ["team-a"]}).json()
    assert up.chat("timed", made["secret"], max_tokens=20).status_code == 200
    wait_until(lambda: up.live("timed") == [])

    def settled() -> dict[str, Any]:
        [row] = up.items("usage", by="key", key=made["id"])
        return row if row["replica_idle_seconds"] > 0 else {}

    row = wait_until(settled)
    assert row["replica_starting_seconds"] > 0.3
    assert row["replica_idle_seconds"] > 0.5
