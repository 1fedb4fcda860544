"""Lengths of requests and proposals, read back as they were written."""

from __future__ import annotations

from tests.platform.conftest import make_template

from pilotlight.activator.values import FunctionId, Usage
from pilotlight.platform.database.connection import Database
from pilotlight.platform.database.functions import Change, Functions
from pilotlight.platform.database.recommendations import Recommendations
from pilotlight.platform.database.usage import UsageRows
from pilotlight.platform.values import Policy, RecommendationRecord
from pilotlight.recommender.proposals import Proposal
from pilotlight.recommender.sketches import RequestLengths, Served

CHAT, OTHER = FunctionId("team-a", "chat"), FunctionId("team-b", "chat")
BATCH = Proposal("engine.maxNumSeqs", 256, 40, 36, 44, "too many")
CONTEXT = Proposal("engine.maxModelLen", 32_768, 2048, 1984, 2048, "too long")
STEPS = Proposal("engine.maxNumBatchedTokens", None, 512, 500, 520, "none")


def test_lengths_come_back_with_the_admission_up_to_which_they_count(database: Database) -> None:
    rows = Recommendations(database)
    before = rows.lengths()
    some, more = RequestLengths().plus([Served(10, 3), Served(70_000, 0)]), RequestLengths().plus([Served(5, 5)])
    rows.count({CHAT: some, OTHER: more}, 7.0)
    rows.count({CHAT: some + more}, 9.0)

    assert before == ({}, 0.0)
    assert rows.lengths() == ({CHAT: some + more, OTHER: more}, 9.0)


def test_requests_are_read_in_order_of_admission_between_two_moments(database: Database) -> None:
    usage = [
        Usage(
            f"r{at}", "key", CHAT, "chat-00001", at, prompt_tokens=at, max_tokens=9 if at == 1 else None, outcome="ok"
        )
        for at in (4, 1, 3, 2, 5)
    ]
    UsageRows(database).write(usage)
    rows = Recommendations(database)

    assert [row.admitted_at for row in rows.requests(1.0, 4.0, 10)] == [2.0, 3.0, 4.0]
    assert [(row.prompt_tokens, row.max_tokens) for row in rows.requests(0.0, 9.0, 2)] == [(1, 9), (2, None)]


def test_what_is_kept_of_functions_that_are_gone_or_were_made_anew_is_dropped(database: Database) -> None:
    rows, functions = Recommendations(database), Functions(database)
    kept, anew, gone, never = (FunctionId("team-a", name) for name in ("kept", "anew", "gone", "never"))
    functions.apply([Change(each, {}, Policy(), make_template()) for each in (kept, anew, gone)], 5.0)
    rows.count(dict.fromkeys((kept, anew, gone, never), RequestLengths().plus([Served(5, 5)])), 7.0)
    for each in (kept, gone):
        rows.propose(each, "f-1", [BATCH], 8.0)
    functions.delete(gone, 9.0)
    functions.delete(anew, 9.0)
    functions.apply([Change(anew, {}, Policy(), make_template())], 10.0)

    assert rows.forget() == {anew, gone, never}
    assert rows.lengths()[0].keys() == {kept}
    assert [record.function for record in rows.all()] == [kept]
    assert rows.forget() == frozenset()


def test_new_proposals_take_the_place_of_all_of_a_function(database: Database) -> None:
    rows = Recommendations(database)
    rows.propose(OTHER, "chat-00009", [BATCH], 1.0)
    rows.propose(CHAT, "chat-00001", [BATCH, CONTEXT], 2.0)
    rows.propose(CHAT, "chat-00002", [STEPS], 3.0)

    [mine] = rows.all(CHAT)
    assert mine == RecommendationRecord(CHAT, "chat-00002", STEPS.option, 3.0, None, 512, 500, 520, "none")
    assert [record.function for record in rows.all()] == [CHAT, OTHER]
    assert rows.all(namespaces=frozenset({"team-c"})) == ()
    rows.propose(CHAT, "chat-00002", [], 4.0)
    assert rows.all(CHAT) == ()
