"""What the API shows of what the platform knows."""

from __future__ import annotations

import pytest
from tests.platform.conftest import make_template

from pilotlight.activator.values import FunctionId
from pilotlight.detector.values import BackOff, State
from pilotlight.platform.api.views import function_out
from pilotlight.platform.control.state import Live, Memory
from pilotlight.platform.values import Function, Policy, ReplicaRecord, Revision
from pilotlight.runtime.spec import ReplicaState, ReplicaStatus

CHAT = FunctionId("team-a", "chat")
TEMPLATE = make_template()


@pytest.mark.parametrize(
    ("states", "shown"),
    [
        pytest.param([], "killed", id="none is left"),
        pytest.param([ReplicaState.STARTING], "killed", id="the next one starts"),
        pytest.param([ReplicaState.READY], "", id="one serves again"),
        pytest.param([ReplicaState.STARTING, ReplicaState.READY], "", id="one serves while another starts"),
    ],
)
def test_a_failure_is_shown_while_nothing_serves(states: list[ReplicaState], shown: str) -> None:
    function = Function(CHAT, {}, Policy(), "chat-00001", 0.0, 0.0)
    revision = Revision(CHAT, "chat-00001", 1, 0.0, "k", TEMPLATE)
    live = [
        Live(ReplicaRecord("r", CHAT, "chat-00001", 0.0), revision, ReplicaStatus("r", "chat-00001", state))
        for state in states
    ]
    memory = Memory(State(since=0.0, back_off=BackOff(1, 5.0, "killed", served=True)), "chat-00001")

    assert function_out(function, revision, live, None, memory).failure == shown
