"""Requests from inside the cluster; runs in the client pod with aiohttp alone. `run(settings)` is what is called.

Nothing is tried again: what a client would have been told is what is counted.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp

TELL_SECONDS = 0.5


class Tally:
    """What became of the requests."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self.answered = 0
        self.told: Counter[str] = Counter()
        """Failures by what the client was told."""
        self.broken: Counter[str] = Counter()
        """Failures without a word, by what the client saw."""
        self.tokens = 0
        self.longest = 0.0

    async def one(self, session: aiohttp.ClientSession, url: str, model: str) -> None:
        began = time.monotonic()
        try:
            error = await self._ask(session, url, model)
        except (aiohttp.ClientError, TimeoutError, OSError) as broken:
            self.broken[f"{type(broken).__name__}: {broken} after {time.monotonic() - began:.1f} s"] += 1
            return
        self.longest = max(self.longest, time.monotonic() - began)
        if error is None:
            self.answered += 1
        else:
            self.told[error] += 1

    async def _ask(self, session: aiohttp.ClientSession, url: str, model: str) -> str | None:
        """None: a whole answer came; else the error as it was told."""
        body = {
            "model": model,
            "messages": [{"role": "user", "content": "How are you?"}],
            "max_tokens": self._settings["max_tokens"],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        headers = {"Authorization": f"Bearer {self._settings['key']}"}
        async with session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as answer:
            if answer.status != 200:
                error = (await answer.json())["error"]
                return f"{answer.status} {error['code']}: {error['message']}"
            async for line in answer.content:
                if line.startswith(b"data: [DONE]"):
                    return None
                if line.startswith(b"data: {"):
                    event = json.loads(line[6:])
                    if "error" in event:
                        return f"{event['error']['code']}: {event['error']['message']}"
                    self.tokens += (event.get("usage") or {}).get("completion_tokens", 0)
        raise aiohttp.ClientPayloadError("the stream ended without an end")

    def summary(self) -> dict[str, Any]:
        return {
            "answered": self.answered,
            "told": dict(self.told.most_common(20)),
            "broken": dict(self.broken.most_common(20)),
            "tokens": self.tokens,
            "longest": round(self.longest, 2),
        }


def _session(keep: bool) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0, force_close=not keep)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=600, sock_connect=10))


async def burst(settings: dict[str, Any]) -> None:
    """All at once, over the given addresses and functions in turn."""
    tally, urls, models = Tally(settings), settings["urls"], settings["models"]
    async with _session(keep=False) as session:
        numbers = range(settings["requests"])
        await asyncio.gather(*(tally.one(session, urls[n % len(urls)], models[n % len(models)]) for n in numbers))
    print(json.dumps(tally.summary()))


async def steady(settings: dict[str, Any]) -> None:
    """So many in flight until the stop file is there; half of them keep their connections."""
    tally, folder = Tally(settings), Path(settings["folder"])
    stop, told, fresh = folder / "stop", folder / "told.json", folder / "fresh.json"

    async def work(number: int) -> None:
        async with _session(keep=number % 2 == 0) as session:
            while not stop.exists():
                failures = tally.broken.total() + tally.told.total()
                await tally.one(session, settings["urls"][number % len(settings["urls"])], settings["models"][0])
                if tally.broken.total() + tally.told.total() > failures:
                    await asyncio.sleep(0.2)  # a client that fails does not hammer

    def tell(ended: bool) -> None:
        fresh.write_text(json.dumps({**tally.summary(), "ended": ended}))
        fresh.replace(told)

    async def tell_forever() -> None:
        while True:
            tell(ended=False)
            await asyncio.sleep(TELL_SECONDS)

    telling = asyncio.create_task(tell_forever())
    await asyncio.gather(*map(work, range(settings["together"])))
    telling.cancel()
    tell(ended=True)


def run(settings: dict[str, Any]) -> None:
    asyncio.run({"burst": burst, "steady": steady}[settings["mode"]](settings))
