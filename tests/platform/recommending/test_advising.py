"""Proposals of running functions: from the ledger and from replicas, told once, gone when they are done."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert
from tests.platform.conftest import make_template

from pilotlight.activator.values import FunctionId, Usage
from pilotlight.platform.control.cluster import RevisionId
from pilotlight.platform.control.state import Known
from pilotlight.platform.database.connection import Database
from pilotlight.platform.database.functions import Change, Functions
from pilotlight.platform.database.recommendations import Recommendations
from pilotlight.platform.database.records import Records
from pilotlight.platform.database.schema import recommendations
from pilotlight.platform.database.usage import UsageRows
from pilotlight.platform.recommending.advising import Advisor
from pilotlight.platform.recommending.following import Follower
from pilotlight.platform.values import Policy, Template
from pilotlight.recommender.proposals import Proposal

CHAT = FunctionId("team-a", "chat")
CONTEXT = "engine.maxModelLen"
PROPOSAL = Proposal(CONTEXT, 32_768, 2048, 1984, 2048, "too long")


class Desk:
    """An advisor with its database; functions are deployed as the control loop would see them."""

    def __init__(self, database: Database, clock: Any) -> None:
        self.database, self.clock = database, clock
        self.functions, self.rows, self.records = Functions(database), Recommendations(database), Records(database)
        self.known = Known()
        self.advisor = self.new_advisor()
        self.written = 0

    def new_advisor(self) -> Advisor:
        return Advisor(Follower(self.known), self.rows, self.records, self.clock)

    def deploy(self, template: Template, **policy: Any) -> None:
        self.functions.apply([Change(CHAT, {}, Policy(**policy), template)], self.clock.now())
        self.take_up()

    def take_up(self) -> None:
        self.known.functions = {function.id: function for function in self.functions.all()}
        self.known.revisions = {RevisionId(each.function, each.name): each for each in self.functions.revisions()}
        self.known.remember({}, self.clock.now())

    def serve(self, requests: int, prompt: int = 200, answer: int = 50, asked: int | None = None) -> None:
        """Finished requests of the last seconds."""
        names = range(self.written, self.written + requests)
        UsageRows(self.database).write(
            [
                Usage(
                    f"r{name}",
                    "key",
                    CHAT,
                    "chat-00001",
                    self.clock.now() + name / 1e5,
                    prompt_tokens=prompt,
                    completion_tokens=answer,
                    max_tokens=asked,
                    outcome="ok",
                )
                for name in names
            ]
        )
        self.written += requests
        self.clock.time += 30

    def proposed(self) -> dict[str, int]:
        return {record.option: record.proposed for record in self.rows.all(CHAT)}

    def told(self) -> list[str]:
        found = self.records.decisions(CHAT)
        return sorted(str(record.inputs["option"]) for record in found if record.reason == "recommended")


@pytest.fixture
def desk(database: Database, clock: Any) -> Desk:
    made = Desk(database, clock)
    made.deploy(make_template(context=32_768))
    return made


async def test_a_context_that_no_request_needs_is_proposed_shorter_once(desk: Desk) -> None:
    desk.serve(1500)
    await desk.advisor.look()
    early = desk.proposed()
    for _ in range(3):
        desk.serve(1000)
        await desk.advisor.look()

    assert early == {}
    assert desk.proposed() == {CONTEXT: 1024}
    assert desk.told() == [CONTEXT]


async def test_a_restart_neither_counts_nor_tells_again(desk: Desk) -> None:
    desk.serve(3000)
    await desk.advisor.look()
    desk.advisor = desk.new_advisor()
    desk.serve(10)
    await desk.advisor.look()

    assert desk.rows.lengths()[0][CHAT].total.count == pytest.approx(3010, abs=1)
    assert desk.told() == [CONTEXT]


async def test_a_new_revision_that_does_as_proposed_ends_the_proposal(desk: Desk) -> None:
    desk.serve(3000)
    await desk.advisor.look()
    desk.deploy(make_template(context=1024))
    await desk.advisor.look()

    assert desk.proposed() == {}


async def test_a_function_whose_proposal_was_withdrawn_is_not_looked_at_again(desk: Desk) -> None:
    desk.serve(3000)
    await desk.advisor.look()
    for context in (1024, 1000):
        desk.deploy(make_template(context=context))
        await desk.advisor.look()
    desk.known.revisions = {}

    await desk.advisor.look()


async def test_what_requests_ask_for_has_room_in_what_is_proposed(desk: Desk) -> None:
    desk.serve(3000, asked=8192)
    await desk.advisor.look()

    assert desk.proposed()[CONTEXT] >= 1.25 * 8192


async def test_a_deleted_function_leaves_neither_proposal_nor_lengths(desk: Desk) -> None:
    desk.serve(3000)
    await desk.advisor.look()
    desk.functions.delete(CHAT, desk.clock.now())
    desk.take_up()
    await desk.advisor.look()

    assert (desk.proposed(), desk.rows.lengths()[0]) == ({}, {})
    assert desk.advisor.recommended(CHAT) == ""


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_function_that_was_made_anew_has_none_of_the_lengths_of_before(desk: Desk, restarted: bool) -> None:
    desk.serve(3000)
    await desk.advisor.look()
    desk.serve(1000)
    desk.functions.delete(CHAT, desk.clock.now())
    desk.clock.time += 1
    desk.deploy(make_template(context=32_768))
    desk.advisor = desk.new_advisor() if restarted else desk.advisor
    desk.serve(10)
    await desk.advisor.look()

    assert desk.rows.lengths()[0][CHAT].total.count == pytest.approx(10)
    assert desk.proposed() == {}


async def test_every_proposal_is_remembered_after_a_restart(desk: Desk) -> None:
    names = [FunctionId("team-a", f"f{number}") for number in range(1001)]
    with desk.database.write() as connection:
        rows = [
            {**vars(PROPOSAL), "namespace": each.namespace, "function": each.name, "revision": "f-1", "at": 2e9}
            for each in names
        ]
        connection.execute(insert(recommendations), rows)
    desk.functions.apply([Change(each, {}, Policy(), make_template()) for each in names], desk.clock.now())
    await desk.advisor.look()

    assert all(desk.advisor.recommended(each) for each in names)


async def test_nothing_is_proposed_while_replicas_fail(desk: Desk) -> None:
    desk.serve(3000)
    desk.known.memory[CHAT].crashed(desk.clock.now(), "killed", served=True)
    await desk.advisor.look()
    during = desk.proposed()
    desk.known.memory[CHAT].succeeded()
    desk.clock.time += 60
    desk.serve(1)
    await desk.advisor.look()

    assert during == {}
    assert desk.proposed().keys() == {CONTEXT}


async def test_requests_that_are_still_on_their_way_into_the_ledger_are_waited_for(desk: Desk) -> None:
    desk.serve(3000)
    desk.clock.time -= 29
    await desk.advisor.look()

    assert desk.rows.lengths() == ({}, 0.0)


async def test_a_function_without_requests_is_not_looked_at(desk: Desk) -> None:
    desk.known.revisions = {}

    await desk.advisor.look()

    assert desk.proposed() == {}


async def test_embedders_are_told_nothing_of_answers(desk: Desk) -> None:
    desk.deploy(make_template(context=32_768, task="embed"))
    desk.serve(3000, answer=0)
    await desk.advisor.look()

    assert desk.proposed().keys() == {CONTEXT}
