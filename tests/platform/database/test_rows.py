"""Reading back what was written, for each kind of row."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.platform.conftest import make_template

from pilotlight.activator.values import FunctionId, Usage
from pilotlight.platform.database.connection import Database, DatabaseError
from pilotlight.platform.database.functions import Change, Functions, same
from pilotlight.platform.database.records import Records
from pilotlight.platform.database.replicas import Replicas
from pilotlight.platform.database.usage import UsageFilter, UsageRows
from pilotlight.platform.values import AuditRecord, DecisionRecord, Desired, Interval, Policy, ReplicaRecord, Template

CHAT = FunctionId("team-a", "chat")
DAY = 86_400.0
TEMPLATE = make_template(
    options={"max_model_len": 2048, "enforce_eager": True},
    environment={"A": "b"},
    slots=8,
    adapters=(("legal", "sha256:" + "1" * 64),),
)


def change(template: Template | None = TEMPLATE, policy: Policy | None = None) -> Change:
    return Change(CHAT, {"kind": "Function"}, policy or Policy(), template)


def test_a_change_makes_the_next_revision_and_keeps_the_first(database: Database) -> None:
    functions = Functions(database, lambda *_: "secret")
    functions.apply([change()], 1.0)
    functions.apply([change(replace(TEMPLATE, slots=4), Policy(maximum=3))], 2.0)

    found = functions.get(CHAT)
    assert found is not None
    assert (found.revision, found.policy.maximum, found.created_at, found.updated_at) == ("chat-00002", 3, 1.0, 2.0)
    first, second = functions.revisions(CHAT)
    assert (first.name, first.template, first.engine_key) == ("chat-00001", TEMPLATE, "secret")
    assert second.template.slots == 4


def test_a_change_of_policy_alone_keeps_the_revision(database: Database) -> None:
    functions = Functions(database)
    functions.apply([change()], 1.0)
    functions.apply([change(None, Policy(maximum=2))], 2.0)

    assert [revision.name for revision in functions.revisions(CHAT)] == ["chat-00001"]
    assert functions.all()[0].policy.maximum == 2


def test_a_name_is_never_used_twice(database: Database) -> None:
    functions = Functions(database)
    functions.apply([change()], 1.0)
    assert functions.delete(CHAT, 2.0)
    assert not functions.delete(CHAT, 2.0)
    assert functions.get(CHAT) is None
    functions.apply([change()], 3.0)

    assert functions.all()[0].revision == "chat-00002"
    assert functions.all()[0].created_at == 3.0


def test_several_changes_are_all_or_nothing(database: Database) -> None:
    functions = Functions(database)
    broken = Change(FunctionId("team-a", "other"), {}, Policy(), None)

    with pytest.raises(ValueError, match="no revision"):
        functions.apply([change(), broken], 1.0)

    assert functions.all() == ()


def test_equal_templates_are_told_apart_from_changed_ones() -> None:
    assert same(TEMPLATE, replace(TEMPLATE))
    assert not same(TEMPLATE, replace(TEMPLATE, options={"max_model_len": 1024}))


def test_a_replica_lives_until_it_ended(database: Database) -> None:
    Functions(database).apply([change()], 1.0)
    replicas = Replicas(database)
    record = ReplicaRecord("r1", CHAT, "chat-00001", 1.0, cpus=(0, 1), devices=("GPU-1",), caused_by="key-1")
    replicas.add(record)
    replicas.desire("r1", Desired.DRAINED)
    assert replicas.live() == (replace(record, desired=Desired.DRAINED),)
    replicas.observed("r1", "stopped", "drained", 9.0)

    assert replicas.live() == ()
    found = replicas.get("r1")
    assert found is not None
    assert (found.state, found.message, found.ended_at) == ("stopped", "drained", 9.0)


def test_a_replica_needs_its_revision(database: Database) -> None:
    with pytest.raises(DatabaseError, match=r"(?i)foreign key"):
        Replicas(database).add(ReplicaRecord("r1", CHAT, "chat-00009", 1.0))


def test_an_interval_is_moved_not_doubled(database: Database) -> None:
    replicas = Replicas(database)
    part = Interval("r1", CHAT, "chat-00001", "starting", 1.0, 2.0, "key-1")
    replicas.write_intervals([part])
    replicas.write_intervals([replace(part, end=5.0), Interval("r1", CHAT, "chat-00001", "idle", 5.0, 8.0, "key-1")])

    assert [(p.state, p.start, p.end) for p in replicas.intervals(CHAT)] == [("starting", 1.0, 5.0), ("idle", 5.0, 8.0)]
    everything = UsageFilter()
    assert replicas.seconds("key", everything) == {("key-1", "starting"): 4.0, ("key-1", "idle"): 3.0}


@pytest.mark.parametrize(
    ("group", "wanted", "seconds"),
    [
        pytest.param(
            "function",
            UsageFilter(),
            {("team-a/chat", "serving"): 10.0, ("team-b/chat", "serving"): 20.0},
            id="everything",
        ),
        pytest.param("key", UsageFilter(frozenset({"team-a"})), {("key-1", "serving"): 10.0}, id="own namespaces"),
        pytest.param("key", UsageFilter(function=CHAT), {("key-1", "serving"): 10.0}, id="one function"),
        pytest.param("function", UsageFilter(key="key-2"), {}, id="one key"),
        pytest.param("key", UsageFilter(since=15.0, until=25.0), {("key-1", "serving"): 10.0}, id="a part of the time"),
        pytest.param("key", UsageFilter(since=40.0), {}, id="later"),
    ],
)
def test_replica_seconds_are_those_asked_for(
    database: Database, group: str, wanted: UsageFilter, seconds: dict[tuple[str, str], float]
) -> None:
    replicas = Replicas(database)
    other = FunctionId("team-b", "chat")
    replicas.write_intervals(
        [
            Interval("r1", CHAT, "chat-00001", "serving", 10.0, 20.0, "key-1"),
            Interval("r2", other, "chat-00001", "serving", 10.0, 15.0, "key-1"),
            Interval("r3", other, "chat-00001", "serving", 20.0, 35.0, "key-1"),
        ]
    )

    assert replicas.seconds(group, wanted) == seconds


def test_the_last_starts_come_newest_last(database: Database) -> None:
    replicas = Replicas(database)
    for number in range(25):
        replicas.started(f"r{number}", "sha256:a", "vllm", {"load": float(number)}, float(number))
    replicas.started("other", "sha256:b", "vllm", {"load": 99.0}, 99.0)

    starts = replicas.starts("sha256:a", "vllm")
    assert [start["load"] for start in starts] == [float(number) for number in range(5, 25)]


def test_usage_is_summed_by_key_function_and_day(database: Database) -> None:
    rows = UsageRows(database)
    base = Usage("r1", "key-1", CHAT, "chat-00001", 1.0, completion_tokens=3, outcome="ok", cold=True)
    rows.write(
        [
            base,
            replace(base, request="r2", key="key-2", completion_tokens=4, cold=False),
            replace(base, request="r3", admitted_at=DAY + 1, outcome="failed"),
            replace(base, request="r4", function=FunctionId("team-b", "chat")),
        ]
    )
    team = UsageFilter(namespaces=frozenset({"team-a"}))

    by_key = {row["key"]: row for row in rows.grouped("key", team)}
    assert (by_key["key-1"]["requests"], by_key["key-1"]["completion_tokens"], by_key["key-1"]["failed"]) == (2, 6, 1)
    assert by_key["key-2"]["cold"] == 0
    assert [(r["day"], r["requests"]) for r in rows.grouped("day", team)] == [("1970-01-01", 2), ("1970-01-02", 1)]
    assert [(r["namespace"], r["requests"]) for r in rows.grouped("function", UsageFilter())] == [
        ("team-a", 3),
        ("team-b", 1),
    ]
    assert [row.request for row in rows.rows(replace(team, since=DAY))] == ["r3"]


def test_a_final_row_is_never_changed(database: Database) -> None:
    rows = UsageRows(database)
    final = Usage("r1", "key-1", CHAT, "chat-00001", 1.0, completion_tokens=3, outcome="ok")
    rows.write([final])
    rows.write([replace(final, outcome="running", completion_tokens=9), replace(final, outcome="failed")])

    assert rows.rows(UsageFilter()) == (final,)


def test_a_count_never_goes_back(database: Database) -> None:
    rows = UsageRows(database)
    running = Usage("r1", "key-1", CHAT, "chat-00001", 1.0, completion_tokens=9)
    rows.write([running])
    rows.write([replace(running, completion_tokens=3)])

    assert rows.rows(UsageFilter())[0].completion_tokens == 9


def test_a_writer_that_ends_closes_its_own_rows_alone(database: Database) -> None:
    rows = UsageRows(database)
    mine = Usage("r1", "key-1", CHAT, "chat-00001", 1.0, completion_tokens=3)
    rows.write([mine, replace(mine, request="r2", outcome="ok")], "writer-1")
    rows.write([replace(mine, request="r3")], "writer-2")

    assert rows.close_running("writer-1", "ended") == 1
    assert rows.close_running("writer-1", "ended") == 0

    assert outcomes(rows) == {"r1": "unknown", "r2": "ok", "r3": "running"}


def test_a_writer_not_heard_of_for_long_is_given_up_once(database: Database) -> None:
    rows = UsageRows(database)
    running = Usage("r1", "key-1", CHAT, "chat-00001", 1.0)
    rows.seen("gone", 100.0)
    rows.write([running], "gone")
    rows.seen("alive", 390.0)
    rows.write([replace(running, request="r2")], "alive")

    assert rows.close_abandoned(400.0, "lost", 300.0) == 0
    assert rows.close_abandoned(401.0, "lost", 300.0) == 1
    assert rows.close_abandoned(402.0, "lost", 300.0) == 0

    assert outcomes(rows) == {"r1": "unknown", "r2": "running"}
    assert {row.reason for row in rows.rows(UsageFilter()) if row.request == "r1"} == {"lost"}


def test_a_writer_that_was_given_up_has_the_last_word(database: Database) -> None:
    rows = UsageRows(database)
    streaming = Usage("r1", "key-1", CHAT, "chat-00001", 1.0, completion_tokens=3)
    rows.write([streaming], "late")
    rows.close_abandoned(1000.0, "lost")
    rows.write([replace(streaming, completion_tokens=2)], "late")
    assert outcomes(rows) == {"r1": "unknown"}

    final = replace(streaming, completion_tokens=9, outcome="ok", status=200)
    rows.write([final], "late")
    rows.close_abandoned(2000.0, "lost")

    assert rows.rows(UsageFilter()) == (final,)


def test_what_a_caller_wrote_is_kept_without_what_no_database_takes(database: Database) -> None:
    rows = UsageRows(database)
    rows.write([Usage("r1", "key-1", CHAT, "chat-00001", 1.0, reason="a\0b \ud800 é", outcome="rejected")])

    assert rows.rows(UsageFilter())[0].reason == "a\ufffdb ? é"


def outcomes(rows: UsageRows) -> dict[str, str]:
    return {row.request: row.outcome for row in rows.rows(UsageFilter())}


def test_decisions_and_audit_come_newest_first(database: Database) -> None:
    records = Records(database)
    one = DecisionRecord(1.0, CHAT, "chat-00001", 1, "demand", "1 queued", {"queued": 1})
    two = replace(one, at=2.0, function=FunctionId("team-b", "x"))
    records.decided([one, two])
    records.audited(AuditRecord(3.0, "key-1", "apply", "team-a/chat", {"revision": "chat-00001"}))

    assert records.decisions(None) == (two, one)
    assert records.decisions(CHAT) == (one,)
    assert records.decisions(None, frozenset({"team-b"})) == (two,)
    assert records.audit() == (AuditRecord(3.0, "key-1", "apply", "team-a/chat", {"revision": "chat-00001"}),)
