"""When an engine's counters are read, and what is kept of them."""

from __future__ import annotations

import pytest

from pilotlight.runtime.counting import COUNTERS_SECONDS, Counting
from pilotlight.runtime.spec import EngineCounters
from pilotlight.runtime.wire import WireError

_PAGE = "vllm:num_requests_running 1\nvllm:num_requests_waiting 0\nvllm:prompt_tokens_total 70\n"


class Engine:
    """A clock of seconds, and a page that may fail."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.reads = 0
        self.content = _PAGE

    def clock(self) -> float:
        return self.now

    async def page(self) -> str:
        self.reads += 1
        if not self.content:
            raise WireError("no answer")
        return self.content

    async def looks(self, counting: Counting, *running: int | None) -> None:
        for count in running:
            self.now += 1.0
            await counting.looked(count)


async def test_an_idle_engine_is_not_read() -> None:
    engine = Engine()
    counting = Counting(engine.page, engine.clock)
    await engine.looks(counting, *[0] * 20, *[None] * 20)

    assert engine.reads == 0
    assert counting.counters is None


async def test_a_busy_one_is_read_every_few_seconds_and_its_looks_are_summed() -> None:
    engine = Engine()
    counting = Counting(engine.page, engine.clock)
    await engine.looks(counting, 3)
    first = counting.counters
    await engine.looks(counting, 1, None, 5, 0, 0)

    assert engine.reads == 2
    assert first == EngineCounters(at=1001.0, looks=1, in_flight=3, prompt_tokens=70)
    assert counting.counters == EngineCounters(1001.0 + COUNTERS_SECONDS, looks=3, in_flight=9, prompt_tokens=70)


@pytest.mark.parametrize("content", ["", "<html>", _PAGE.replace("70", "NaN")])
async def test_what_cannot_be_read_is_read_again_later(content: str) -> None:
    engine = Engine()
    counting = Counting(engine.page, engine.clock)
    engine.content = content
    await engine.looks(counting, 2, 2)
    before = engine.reads, counting.counters
    engine.content = _PAGE
    await engine.looks(counting, 2, 2)

    assert before == (1, None)
    assert counting.counters == EngineCounters(1004.0, looks=4, in_flight=8, prompt_tokens=70)
