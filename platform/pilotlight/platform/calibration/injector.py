"""A closed loop: so many requests in flight, each answer that ends is followed by the next request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from random import Random
from time import monotonic

from pilotlight.activator.events import Splitter, error_in, error_of, parse
from pilotlight.activator.forwarding import Answer, ReplicaLostError, SilentError, Upstream
from pilotlight.activator.settings import Settings
from pilotlight.activator.values import Replica
from pilotlight.platform.calibration.errors import CalibrationError
from pilotlight.recommender.calibration import Measured, Sample

_GOLDEN = 0.6180339887498949
_LEAST_GAPS = 4
"""Tokens of a request after its first, from which their mean interval says something."""
_SETTINGS = Settings()


@dataclass(frozen=True)
class Requests:
    """Requests of one kind. No two prompts begin alike, so that no cache of prefixes helps."""

    model: str
    """Name that the engine serves."""
    prompt: int
    """Tokens of each."""
    answer: int
    """Mean tokens; spread evenly from half to one and a half of it, or all streams would end together."""
    vocabulary: int

    def tokens(self, number: int) -> int:
        """Of the answer to one request: a sequence that fills the range evenly from its beginning on (Weyl 1916)."""
        return max(1, round(self.answer * (0.5 + number * _GOLDEN % 1.0)))

    def body(self, number: int) -> bytes:
        """The ids are from the middle of the vocabulary: special ones stand at its ends."""
        ids = range(self.vocabulary // 4, max(self.vocabulary // 4 + 1, self.vocabulary // 2))
        request = {
            "model": self.model,
            "prompt": Random(number).choices(ids, k=self.prompt),  # noqa: S311 - nothing secret
            "max_tokens": self.tokens(number),
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }
        return json.dumps(request).encode()


@dataclass
class Stream:
    """One request as it was seen; moments are of `monotonic`."""

    sent: float
    loaded: bool
    """All others were in flight when it was sent."""
    first: float = 0.0
    begin: tuple[float, int] | None = None
    """The first moment at the full load, and its tokens until then."""
    last: tuple[float, int] = (0.0, 0)
    ended: float = 0.0

    def saw(self, tokens: int, now: float, *, full: bool) -> None:
        if tokens <= self.last[1]:
            return
        self.first = self.first or now
        if full and self.begin is None:
            self.begin = (now, tokens)
        self.last = (now, tokens)

    def sample(self) -> Sample:
        ttft = self.first - self.sent if self.loaded and self.first else None
        if self.begin is None or self.last[1] - self.begin[1] < _LEAST_GAPS:
            return Sample(ttft=ttft)
        (begin, before), (last, after) = self.begin, self.last
        return Sample(ttft=ttft, itl=(last - begin) / (after - before))


class ClosedLoop:
    """One load of one engine. Workers, each with one request after the other, join one by one: each when all before it
    have had a first token."""

    def __init__(self, upstream: Upstream, replica: Replica, requests: Requests, load: int, first: int = 0) -> None:
        """`first`: number of its first request; loads that share numbers share prompts."""
        self._upstream, self._replica, self._requests, self._load = upstream, replica, requests, load
        self._numbers = count(first)
        self._news = asyncio.Event()
        self._joined: set[int] = set()
        """Workers that have had a token: from then on they always have a request in flight."""
        self.streams: list[Stream] = []
        self.full_at = 0.0
        """When all had joined; 0: not yet."""
        self.ended_at = 0.0

    async def run(self, seconds: float, enough: Callable[[int], bool] = lambda _: False) -> None:
        """Returns after `seconds`, or when what was sent and has ended at the full load is enough.

        Raises CalibrationError.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._run(enough)
        except TimeoutError:
            pass
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        self.ended_at = monotonic()

    def measured(self) -> Measured | None:
        """None: the load was never reached, or not for long enough."""
        samples = tuple(sample for stream in self.streams if (sample := stream.sample()) != Sample())
        if not self.full_at or all(sample.itl is None for sample in samples):
            return None
        return Measured(load=self._load, seconds=self.ended_at - self.full_at, samples=samples)

    def ended(self) -> list[Stream]:
        """Those that were sent and have ended at the full load."""
        return [stream for stream in self.streams if stream.loaded and stream.ended]

    async def _run(self, enough: Callable[[int], bool]) -> None:
        async with asyncio.TaskGroup() as group:
            workers: list[asyncio.Task[None]] = []
            while len(workers) < self._load:
                workers.append(group.create_task(self._work(len(workers))))
                await self._until(lambda: len(self._joined) == len(workers))
            self.full_at = monotonic()
            await self._until(lambda: enough(len(self.ended())))
            for worker in workers:
                worker.cancel()

    async def _until(self, met: Callable[[], bool]) -> None:
        while not met():
            self._news.clear()
            await self._news.wait()

    async def _work(self, worker: int) -> None:
        while True:
            stream = Stream(monotonic(), loaded=len(self._joined - {worker}) == self._load - 1)
            self.streams.append(stream)
            async for tokens in self._tokens(next(self._numbers)):
                stream.saw(tokens, monotonic(), full=bool(self.full_at))
                if stream.first:
                    self._joined.add(worker)
                self._news.set()
            stream.ended = monotonic()
            self._news.set()

    async def _tokens(self, number: int) -> AsyncIterator[int]:
        """How many of the answer's tokens have come, whenever some have."""
        body, name = self._requests.body(number), f"calibration-{number}"
        with _translated():
            exchange = self._upstream.exchange(self._replica, "completions", body, name, _SETTINGS.silence_seconds)
            async with exchange as answer:
                await _check(answer)
                splitter = Splitter(_SETTINGS.event_bytes)
                async for data in answer.chunks():
                    for event in splitter.feed(data):
                        yield _count(event)


@asynccontextmanager
async def opened() -> AsyncIterator[Upstream]:
    upstream = Upstream(_SETTINGS)
    upstream.open()
    try:
        yield upstream
    finally:
        await upstream.close()


async def _check(answer: Answer) -> None:
    if answer.status != 200:
        said = error_in(await answer.read(_SETTINGS.event_bytes)).get("message", "")
        raise CalibrationError(f"the engine refused a request with status {answer.status}: {said}")


def _count(event: bytes) -> int:
    chunk = parse(event) or {}
    if error := error_of(chunk):
        raise CalibrationError(f"the engine broke off an answer: {error.get('message', error)}")
    usage = chunk.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return tokens if isinstance(tokens, int) else 0


@contextmanager
def _translated() -> Iterator[None]:
    """The seam's errors as ours."""
    try:
        yield
    except (ReplicaLostError, SilentError) as error:
        raise CalibrationError(f"the engine does not answer any more: {str(error) or 'it fell silent'}") from error
