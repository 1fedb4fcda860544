"""The HTTP surface: a raw ASGI application, because load tests drive ten thousand streams through it."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable

from . import replies
from .engine import Engine, Job
from .exchange import DisconnectedError, Exchange, Receive, Scope, Send
from .requests import Generation, RefusedError, Served, read_chat, read_completion, read_embedding
from .sequence import Delta, Limits, Sequence
from .tokens import Continuation

VERSION = "0.32.0"
"""The vLLM release whose surface this is."""
_GUARDED = ("/v1", "/v2", "/inference")
_EVENT_STREAM = [(b"content-type", b"text/event-stream; charset=utf-8")]


class App:
    """Routes one engine's requests; without `key` everybody may call."""

    def __init__(self, engine: Engine, served: Served, key: str = "") -> None:
        self._engine = engine
        self._served = served
        self._key = hashlib.sha256(key.encode()).digest() if key else None
        self._created = int(time.time())
        generates, pools = engine.options.runner != "pooling", engine.options.runner != "generate"
        self._routes: dict[tuple[str, str], Callable[[Exchange], Awaitable[None]]] = {
            ("GET", "/health"): self._health,
            ("GET", "/version"): self._version,
            ("GET", "/metrics"): self._metrics,
            ("GET", "/load"): self._load,
            ("GET", "/v1/models"): self._models,
        }
        if generates:
            self._routes |= {
                ("POST", "/v1/chat/completions"): self._chat,
                ("POST", "/v1/completions"): self._completion,
            }
        if pools:
            self._routes["POST", "/v1/embeddings"] = self._embedding

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send)
        if scope["path"].startswith(_GUARDED) and not self._knows(exchange.header(b"authorization")):
            await exchange.json({"error": "Unauthorized"}, 401)
            return
        try:
            await self._route(scope)(exchange)
        except RefusedError as refused:
            await exchange.json(replies.error(refused), refused.code)
        except DisconnectedError:
            return

    def _knows(self, authorization: str | None) -> bool:
        if self._key is None:
            return True
        scheme, _, token = (authorization or "").partition(" ")
        given = hashlib.sha256(token.encode()).digest()
        return scheme.lower() == "bearer" and secrets.compare_digest(given, self._key)

    def _route(self, scope: Scope) -> Callable[[Exchange], Awaitable[None]]:
        handler = self._routes.get((scope["method"], scope["path"]))
        if handler is not None:
            return handler
        if any(path == scope["path"] for _, path in self._routes):
            raise RefusedError("Method Not Allowed", "Method Not Allowed", code=405)
        raise RefusedError("Not Found", "Not Found", code=404)

    async def _health(self, exchange: Exchange) -> None:
        await exchange.start(200, [(b"content-length", b"0")])
        await exchange.finish()

    async def _version(self, exchange: Exchange) -> None:
        await exchange.json({"version": VERSION})

    async def _metrics(self, exchange: Exchange) -> None:
        await exchange.reply(200, self._engine.metrics.text(), b"text/plain; version=0.0.4; charset=utf-8")

    async def _load(self, exchange: Exchange) -> None:
        await exchange.json({"server_load": self._engine.running + self._engine.waiting})

    async def _models(self, exchange: Exchange) -> None:
        await exchange.json(replies.models(self._served, self._engine.options, self._created))

    async def _chat(self, exchange: Exchange) -> None:
        request = read_chat(await self._body(exchange), self._served, self._engine.options)
        await self._generate(exchange, request, f"chatcmpl-{_base_id(exchange)}")

    async def _completion(self, exchange: Exchange) -> None:
        request = read_completion(await self._body(exchange), self._served, self._engine.options)
        await self._generate(exchange, request, f"cmpl-{_base_id(exchange)}")

    async def _embedding(self, exchange: Exchange) -> None:
        request = read_embedding(await self._body(exchange), self._served, self._engine.options)
        self._admit()
        job = Job()
        salt = self._served.salt(request.model)
        sequences = [Sequence(prompt, None, Limits(max_tokens=1), job, salt) for prompt in request.prompts]
        self._engine.submit(job, sequences)
        body = replies.embeddings(f"embd-{_base_id(exchange)}", request)
        await self._while_connected(exchange, job, self._answer(exchange, job, lambda _: body))

    async def _body(self, exchange: Exchange) -> bytes:
        kind = (exchange.header(b"content-type") or "").partition(";")[0].strip().lower()
        if kind != "application/json":
            message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
            raise RefusedError(message, "Bad Request")
        return await exchange.body()

    def _admit(self) -> None:
        self._engine.arrive()
        if self._engine.fails("error"):
            raise RefusedError("simulated failure", "InternalServerError", code=500)

    async def _generate(self, exchange: Exchange, request: Generation, id_: str) -> None:
        self._admit()
        job = Job()
        self._engine.submit(job, self._sequences(request, job))
        writer = replies.Writer(id_, request)
        if request.stream:
            cut = self._engine.options.simulated_drop_after_tokens if self._engine.fails("drop") else None
            answer = self._stream(exchange, job, writer, cut)
        else:
            answer = self._answer(exchange, job, lambda deltas: writer.whole(deltas, self._cached(job)))
        await self._while_connected(exchange, job, answer)

    def _sequences(self, request: Generation, job: Job) -> list[Sequence]:
        options = self._engine.options
        seed = options.seed if request.seed is None else request.seed
        seeds = [0] * request.n if request.greedy else [seed * 16_411 + index + 1 for index in range(request.n)]
        salt = self._served.salt(request.model)
        return [
            Sequence(prompt, Continuation(prompt, seed, options.simulated_mean_tokens, salt), limits, job, salt)
            for prompt, limits in zip(request.prompts, request.limits, strict=True)
            for seed in seeds
        ]

    async def _while_connected(self, exchange: Exchange, job: Job, answer: Awaitable[None]) -> None:
        """Answer, but stop and free the slots when the client leaves."""
        watching = asyncio.ensure_future(self._watch(exchange, job))
        try:
            await answer
        finally:
            watching.cancel()
            self._engine.abort(job)

    async def _watch(self, exchange: Exchange, job: Job) -> None:
        await exchange.gone()
        self._engine.abort(job)

    async def _stream(self, exchange: Exchange, job: Job, writer: replies.Writer, cut: int | None) -> None:
        """Write events as tokens come; with `cut`, leave the stream unfinished once so many tokens were sent."""
        # As with vLLM the status goes out at once, however long the first token takes.
        await exchange.start(200, _EVENT_STREAM)
        if cut == 0 or not await self._pump(exchange, job, writer, cut):
            # An ASGI server closes the connection of an answer that was left unfinished.
            return
        await exchange.push(writer.closing(self._cached(job)).encode() + replies.DONE)
        await exchange.finish()

    async def _pump(self, exchange: Exchange, job: Job, writer: replies.Writer, cut: int | None) -> bool:
        """Whether all was said."""
        opening, sent = writer.opening(), 0
        async for deltas in job.deltas():
            text = opening + "".join(writer.chunk(index, delta) for index, delta in deltas)
            opening = ""
            await exchange.push(text.encode())
            sent += sum(len(delta.ids) for _, delta in deltas)
            if cut is not None and sent >= cut:
                return False
        return not job.abandoned

    async def _answer(self, exchange: Exchange, job: Job, body: Callable[[list[Delta]], replies.Json]) -> None:
        while not job.done:
            await job.moved.wait()
            job.moved.clear()
        if job.abandoned:
            return
        deltas = [delta for sequence in job.sequences if (delta := sequence.take()) is not None]
        await exchange.json(body(deltas))

    def _cached(self, job: Job) -> int | None:
        return job.sequences[0].cached if self._engine.options.enable_prompt_tokens_details else None


def _base_id(exchange: Exchange) -> str:
    return exchange.header(b"x-request-id") or uuid.uuid4().hex
