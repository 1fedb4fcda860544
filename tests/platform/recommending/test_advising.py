"""Proposals of running functions: from the ledger and from replicas, told once, gone when they are done."""

from __future__ import annotations

from typing import Any

import pytest
from tests.platform.conftest import make_template

from pilotlight.activator.values import FunctionId, Usage
from pilotlight.platform.control.cluster import RevisionId
from pilotlight.platform.control.state import Known
from pilotlight.platform.database.connection import Database
from pilotlight.platform.database.functions import Change, Functions
from pilotlight.platform.database.recommendations import Recommendations
from pilotlight.platform.database.records import Records
from pilotlight.platform.database.usage import UsageRows
from pilotlight.platform.recommending.advising import Advisor
from pilotlight.platform.recommending.following import Follower
from pilotlight.platform.values import Policy, Template

CHAT = FunctionId("team-a", "chat")
CONTEXT = "engine.maxModelLen"
ANSWER = "engine.overrideGenerationConfig.max_new_tokens"


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

    def serve(self, requests: int, prompt: int = 200, answer: int = 50) -> None:
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
    assert desk.proposed().keys() == {CONTEXT, ANSWER}
    assert desk.proposed()[CONTEXT] == 320
    assert desk.told() == [CONTEXT, ANSWER]


async def test_a_restart_neither_counts_nor_tells_again(desk: Desk) -> None:
    desk.serve(3000)
    await desk.advisor.look()
    desk.advisor = desk.new_advisor()
    desk.serve(10)
    await desk.advisor.look()

    assert desk.rows.lengths()[0][CHAT].total.count == pytest.approx(3010, abs=1)
    assert desk.told() == [CONTEXT, ANSWER]


async def test_a_new_revision_that_does_as_proposed_ends_the_proposal(desk: Desk) -> None:
    desk.serve(3000)
    await desk.advisor.look()
    done = {"override_generation_config": {"max_new_tokens": 60}}
    desk.deploy(make_template(context=320, options=done))
    await desk.advisor.look()

    assert desk.proposed() == {}


async def test_a_deleted_function_leaves_no_proposal(desk: Desk) -> None:
    desk.serve(3000)
    await desk.advisor.look()
    desk.functions.delete(CHAT, desk.clock.now())
    desk.take_up()
    await desk.advisor.look()

    assert desk.proposed() == {}


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
    assert desk.proposed().keys() == {CONTEXT, ANSWER}


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
