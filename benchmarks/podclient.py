"""Runs in a pod, inside the cluster's network: makes the requests of a cluster benchmark and reads the clock for them.

One JSON document a line on standard input, one answer a line on standard output. Only what the control plane's image
has is imported. Times are Unix seconds of the client's node.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from typing import Any

import aiohttp

SECONDS = 600.0
"""A request that takes longer has failed."""


async def main() -> None:
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True), timeout=aiohttp.ClientTimeout(total=SECONDS)
    ) as session:
        while line := await asyncio.to_thread(sys.stdin.readline):
            answer = await work(session, json.loads(line))
            print(json.dumps(answer), flush=True)


async def work(session: aiohttp.ClientSession, told: Mapping[str, Any]) -> dict[str, Any]:
    try:
        match told["do"]:
            case "clock":
                return {"now": time.time()}
            case "get":
                return await get(session, told["url"], told["headers"])
            case "stream":
                return await stream(session, told["url"], told["headers"], told["body"])
            case other:
                return {"error": f"cannot do {other}"}
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        return {"error": f"{type(error).__name__}: {error}"}


async def get(session: aiohttp.ClientSession, url: str, headers: Mapping[str, str]) -> dict[str, Any]:
    async with session.get(url, headers=headers) as answer:
        return {"status": answer.status, "text": await answer.text()}


async def stream(
    session: aiohttp.ClientSession, url: str, headers: Mapping[str, str], body: Mapping[str, Any]
) -> dict[str, Any]:
    """One streamed answer: when it was asked for, when the engine's first byte came and its first token, and the text.

    The engine's first byte is its first event; comments before it are the activator's own.
    """
    seen: dict[str, Any] = {"sent": time.time(), "first": 0.0, "token": 0.0, "text": "", "comments": []}
    async with session.post(url, headers=headers, json=body) as answer:
        seen["status"] = answer.status
        if answer.status != 200:
            return seen | {"error": f"HTTP {answer.status}: {(await answer.text())[:500]}"}
        async for line in answer.content:
            take(seen, line.decode().strip(), time.time())
    return seen if seen["token"] else seen | {"error": "the stream ended without a token"}


def take(seen: dict[str, Any], line: str, now: float) -> None:
    if line.startswith(": "):
        seen["comments"].append([now, line[2:]])
    if not line.startswith("data: "):
        return
    seen["first"] = seen["first"] or now
    if line == "data: [DONE]":
        return
    event = json.loads(line[6:])
    if "error" in event:
        raise ValueError(f"the stream ended with {event['error']}")
    choices = event.get("choices") or [{}]
    if text := (choices[0].get("delta") or {}).get("content"):
        seen["token"] = seen["token"] or now
        seen["text"] += text


if __name__ == "__main__":
    asyncio.run(main())
