"""A load of streams, each on a connection of its own, in a process of its own: `python benchmarks/load.py`.

The plan comes as one line of JSON on standard input, the key with it. What goes out are lines of JSON: how many
requests have had their first byte, and at the end one record for each request. Times are of CLOCK_MONOTONIC, which all
processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from dataclasses import asdict, dataclass, field
from time import monotonic
from typing import cast

import httptools
import uvloop

from pilotlight.runtime.simulated.tokens import Continuation, decode, encode_chat

WORDS = ("the", "small", "flame", "stays", "lit", "so", "that", "the", "burner", "ignites", "at", "once")
TELL_SECONDS = 0.25


@dataclass(frozen=True)
class Plan:
    """Requests number `first` to `first + count - 1`; equal numbers have equal prompts."""

    host: str
    port: int
    key: str
    model: str
    first: int
    count: int
    tokens: int
    """Of each answer."""
    prompt_bytes: int
    seed: int
    source: str
    """Address to call from: each has its own 28,000 ports."""
    per_second: float = 1000.0
    """Connections that are opened: in a faster burst the kernel drops some of them, to be tried again up to a minute
    later, and the load would never be there at one time."""
    seconds: float = 600.0
    """After so long, what has not ended is lost."""


@dataclass
class Record:
    """What one request got."""

    number: int
    sent: float = 0.0
    status: int = 0
    first_byte: float = 0.0
    """Of the body: a comment, where the request is held."""
    first_token: float = 0.0
    ended: float = 0.0
    comments: int = 0
    told: int = 0
    """Tokens by the usage event."""
    exact: bool = False
    """The text is what the simulated engine answers to this prompt, all of it and nothing twice."""
    done: int = 0
    """How often `[DONE]` came."""
    complete: bool = False
    """The response ended as HTTP has it."""
    error: str = ""


@dataclass
class Counts:
    in_hand: int = 0
    """Requests that have had their first byte, or ended without one."""


def prompt(number: int, seed: int, size: int) -> str:
    """A text of exactly `size` bytes that no other number has."""
    chooser = random.Random(seed * 1_000_003 + number)
    text = f"{number:06d}"
    while len(text) < size:
        text += " " + chooser.choice(WORDS)
    return text[:size]


def expected(plan: Plan, number: int) -> str:
    """The simulated engine's greedy answer: its language model is a pure function."""
    ids = encode_chat([("user", prompt(number, plan.seed, plan.prompt_bytes))])
    answer = Continuation(ids, 0, mean_tokens=1)
    return decode(answer.next(may_end=False) for _ in range(plan.tokens))


def request_bytes(plan: Plan, number: int) -> bytes:
    body = json.dumps(
        {
            "model": plan.model,
            "messages": [{"role": "user", "content": prompt(number, plan.seed, plan.prompt_bytes)}],
            "max_tokens": plan.tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\n"
        f"host: {plan.host}:{plan.port}\r\nauthorization: Bearer {plan.key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Stream(asyncio.Protocol):
    """One request on one connection; ends with the response or with the connection."""

    def __init__(self, data: bytes, record: Record, counts: Counts) -> None:
        self.record = record
        self.ended = asyncio.get_running_loop().create_future()
        self._data = data
        self._counts = counts
        self._parser = httptools.HttpResponseParser(self)
        self._rest = b""
        self.text = ""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        self.record.sent = monotonic()
        self._transport.write(self._data)
        self._data = b""

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, ValueError, KeyError, TypeError) as error:
            self._end(f"unreadable: {error!r}"[:200])

    def connection_lost(self, error: Exception | None) -> None:
        self._end(f"the connection was lost: {error}")

    # httptools calls these

    def on_headers_complete(self) -> None:
        self.record.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        if not self.record.first_byte:
            self.record.first_byte = monotonic()
            self._counts.in_hand += 1
        *events, self._rest = (self._rest + body).split(b"\n\n")
        for event in events:
            self._take(event)

    def on_message_complete(self) -> None:
        self.record.complete = True
        self._end("" if self.record.status == 200 else self._rest.decode(errors="replace")[:500])

    def _take(self, event: bytes) -> None:
        record = self.record
        if event.startswith(b":"):
            record.comments += 1
        elif event == b"data: [DONE]":
            record.done += 1
        else:
            self._take_chunk(json.loads(event.removeprefix(b"data: ")))

    def _take_chunk(self, chunk: dict[str, object]) -> None:
        record = self.record
        if "error" in chunk:
            record.error = json.dumps(chunk["error"])[:500]
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            record.told = usage["completion_tokens"]
        choices = chunk.get("choices")
        content = choices[0]["delta"].get("content") if isinstance(choices, list) and choices else None
        if content:
            record.first_token = record.first_token or monotonic()
            self.text += content

    def _end(self, error: str) -> None:
        if self.ended.done():
            return
        self.record.ended = monotonic()
        self.record.error = self.record.error or error
        self._counts.in_hand += not self.record.first_byte
        self.ended.set_result(None)
        if self._transport is not None:
            self._transport.close()


@dataclass
class Run:
    """All requests of one plan."""

    plan: Plan
    counts: Counts = field(default_factory=Counts)
    records: list[Record] = field(default_factory=list)

    async def all(self) -> list[Record]:
        plan = self.plan
        self.records = [Record(number) for number in range(plan.first, plan.first + plan.count)]
        begin = monotonic()
        waits = [
            asyncio.create_task(self._one(record, begin + index / plan.per_second))
            for index, record in enumerate(self.records)
        ]
        telling = asyncio.create_task(self._tell())
        _, late = await asyncio.wait(waits, timeout=plan.seconds)
        telling.cancel()
        for record in self.records:
            if not record.ended:
                record.error = record.error or f"no end within {plan.seconds:.0f} s"
        for wait in late:
            wait.cancel()
        return self.records

    async def _one(self, record: Record, moment: float) -> None:
        loop, plan = asyncio.get_running_loop(), self.plan
        data = request_bytes(plan, record.number)
        await asyncio.sleep(max(0.0, moment - monotonic()))
        try:
            _, stream = await loop.create_connection(
                lambda: Stream(data, record, self.counts), plan.host, plan.port, local_addr=(plan.source, 0)
            )
        except OSError as error:
            record.ended, record.error = monotonic(), f"no connection: {error}"
            self.counts.in_hand += 1
            return
        await stream.ended
        record.exact = stream.text == expected(plan, record.number)

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(TELL_SECONDS)
            say({"in_hand": self.counts.in_hand})


def say(message: dict[str, object]) -> None:
    print(json.dumps(message), flush=True)


def main() -> None:
    plan = Plan(**json.loads(sys.stdin.readline()))
    say({"records": [asdict(record) for record in uvloop.run(Run(plan).all())]})


if __name__ == "__main__":
    main()
