"""The ASGI application: from a connection's first bytes to an admitted request, or to a clear refusal.

What a client can rely on:

- `POST /v1/{chat/completions,completions,embeddings}` with `model` = `name`, `namespace/name`, or either with
  `:adapter`; the same under `/f/{namespace}/{name}/v1/...`, where `model` may be left out; `GET /v1/models`.
- On a host that stands for a function (`Route.hosts`) `/v1/...` is that function, and nothing else is there.
- `X-Request-Deadline`: how long the answer's beginning may take (`deadlines`). What is expected to begin later is
  refused at once with 503; what was expected in time and is not ready by then is refused then.
- Every refusal is OpenAI's error object; 429 and 503 carry `Retry-After`, computed from what was learned.
- Every answer carries `X-Request-Id`, the id of the ledger row where there is one; a client's own header of that name
  is not taken over, ids must be unique. Answers of a function add `X-Pilotlight-Revision`, `-Start: cold|warm`,
  `-Queue-Ms`, `-Start-Ms` and `-Replica`; so do its refusals, without the replica where the request got none.
- A stream that has to wait gets 200 and an SSE comment within a second, then one at least every five
  (`: loading weights 43% (eta 12s)`); `: pilotlight {...}` with the facts that its headers could not know comes before
  the first event. A refusal from then on is one event `data: {"error": {..., "status": 503, "retry_after": 12}}`, after
  which the stream ends without `[DONE]`. `X-Pilotlight-Progress: off` asks for none of this: no comments, true statuses
  and all headers. Requests without streaming always get true statuses.
- A request is given to another replica if its own dies before it made anything; after that it ends with an error.
- A stream is metered as it passes, to the token at which its client or its engine left. An answer in one piece has its
  counts at its end: one that is broken off has its seconds in the ledger, and no tokens. (To ask for it as a stream and
  put it together again would not give the engine's own answer: it parses tool calls and reasoning otherwise there.)
"""

from __future__ import annotations

import json
import logging
import uuid

from pilotlight.activator import errors, headers, models
from pilotlight.activator.admission import Admit, admit
from pilotlight.activator.budget import Budget, Share
from pilotlight.activator.channel import Channel, Scope, header
from pilotlight.activator.deadlines import remaining
from pilotlight.activator.errors import JSON, RefusedError
from pilotlight.activator.fleet import Fleet
from pilotlight.activator.hands import Hands
from pilotlight.activator.inhand import InHand
from pilotlight.activator.lengths import Lengths, check_max_tokens
from pilotlight.activator.names import Directory, Target
from pilotlight.activator.parking import ClientGoneError, Receive, Send
from pilotlight.activator.requests import Parsed, parse
from pilotlight.activator.routing import Place, place, place_on_host
from pilotlight.activator.schema import Endpoint
from pilotlight.activator.settings import Settings
from pilotlight.activator.state import RevisionState
from pilotlight.activator.traffic import Address
from pilotlight.activator.values import Authenticator, Caller, Clock, FunctionId, Route

_log = logging.getLogger(__name__)


class App:
    """Raw ASGI: no framework between the socket and ten thousand waiting requests."""

    def __init__(
        self,
        authenticator: Authenticator,
        fleet: Fleet,
        hands: Hands,
        lengths: Lengths,
        clock: Clock,
        settings: Settings,
    ) -> None:
        self._authenticator = authenticator
        self._fleet = fleet
        self._hands = hands
        self._lengths = lengths
        self._clock = clock
        self._settings = settings
        self._budget = Budget(settings.held_bytes, settings.overload_retry_seconds)
        self.directory = Directory({})
        self.leaving = False  # connections are closed with their answers, so that clients turn to another activator
        self.draining = False  # and nothing new is taken

    def is_leaving(self) -> bool:
        return self.leaving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":  # the host starts and closes the activator itself
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        channel = Channel(receive, send, f"req-{uuid.uuid4().hex}", self.is_leaving)
        try:
            where = self._place(scope)
            caller = self._authenticate(scope)
            self._check_draining()
            if where.endpoint is None:
                await self._models(where, caller, channel)
            else:
                await self._complete(scope, channel, where, where.endpoint, caller)
        except RefusedError as refusal:
            await channel.refuse(refusal, (), self._settings)
        except ClientGoneError:
            return
        except Exception:  # noqa: BLE001 - the client is told, the log has it, the others go on
            _log.exception("request %s failed", channel.id)
            await channel.refuse(errors.internal(), (), self._settings)

    def _place(self, scope: Scope) -> Place:
        found = self.directory.at_host(header(scope, b"host") or "", scope["headers"])
        if found is not None:
            return place_on_host(scope["method"], scope["path"], *found)
        return place(scope["method"], scope["path"])

    async def _models(self, where: Place, caller: Caller, channel: Channel) -> None:
        if where.model:
            answer = models.single(self.directory, caller, where.model, where.function, where.address.host)
        else:
            answer = models.listing(self.directory, caller, where.function)
        await channel.answer(200, [JSON], json.dumps(answer).encode())

    async def _complete(self, scope: Scope, channel: Channel, where: Place, endpoint: Endpoint, caller: Caller) -> None:
        with Share(self._budget) as share:
            raw = await channel.read(scope, self._settings, share.add)
            parsed = parse(endpoint, raw, self._settings)
            target = self._target(where, parsed, caller)
            request = await self._intake(scope, channel.id, where.address, target, parsed, caller)
            share.becomes(len(parsed.rest))
            del raw, parsed  # a request may be held for minutes: only what goes upstream is kept
            await self._hands.carry(request, channel)

    def _authenticate(self, scope: Scope) -> Caller:
        presented = header(scope, b"authorization") or ""
        scheme, _, secret = presented.partition(" ")
        secret = secret.strip()
        caller = self._authenticator.authenticate(secret) if scheme.lower() == "bearer" and secret else None
        if caller is None:
            raise errors.unauthorized(bool(presented))
        return caller

    def _check_draining(self) -> None:
        if self.draining:
            raise errors.draining(self._settings.drain_retry_seconds)

    def _target(self, where: Place, parsed: Parsed, caller: Caller) -> Target:
        if where.function is not None:
            return self.directory.resolve_within(where.function, parsed.model, caller, where.address.host)
        if parsed.model is None:
            raise errors.missing("model")
        return self.directory.resolve(parsed.model, caller)

    async def _intake(
        self, scope: Scope, request: str, address: Address, target: Target, parsed: Parsed, caller: Caller
    ) -> InHand:
        """Everything that can be said without the engine; a refusal from here on has its ledger row."""
        arrived = self._clock.monotonic()
        found = self._fleet.state_of(target.route.function, request, address)
        route = found.route if found is not None else target.route
        try:
            await self._check(route, target.adapter, parsed)
            deadline = self._deadline(scope, arrived)
            state, admitted = self._admit(route.function, request, address, deadline)
        except RefusedError as refusal:
            self._hands.refused(request, caller, route, refusal)
            cold = self._fleet.is_cold(route.function, request, address)
            refusal.headers += headers.unadmitted(route.revision, cold)
            raise
        progress = parsed.stream and (header(scope, b"x-pilotlight-progress") or "").strip().lower() != "off"
        taken = InHand(
            state,
            id=request,
            key=caller.key,
            adapter=target.adapter,
            address=address,
            asked=parsed,
            progress=progress,
            arrived=arrived,
            admitted_at=self._clock.now(),
            hold_seconds=admitted.hold_seconds,
            beat_at=arrived + self._settings.heartbeat_first_seconds,
        )
        self._hands.admit(taken)
        return taken

    async def _check(self, route: Route, adapter: str, parsed: Parsed) -> None:
        if adapter and adapter not in route.adapters:  # its function has it, this revision has not
            raise errors.unknown_model(adapter, route.function.name)
        if parsed.endpoint.task != route.task:
            raise errors.wrong_task(route, parsed.endpoint.value)
        check_max_tokens(route, parsed.max_tokens_field, parsed.max_tokens)
        await self._lengths.check(route, parsed.prompt)

    def _deadline(self, scope: Scope, arrived: float) -> float | None:
        """Seconds from now; what the checks took is gone from it."""
        text = header(scope, b"x-request-deadline")
        if text is None:
            return None
        return remaining(text, self._clock.now()) - (self._clock.monotonic() - arrived)

    def _admit(
        self, function: FunctionId, request: str, address: Address, deadline: float | None
    ) -> tuple[RevisionState, Admit]:
        """Raises `RefusedError`. Lateness wakes the function, or its `Retry-After` would be a lie."""
        self._check_draining()
        state = self._fleet.arrival(function, request, address)
        if state is None:
            raise errors.deleted(function)
        decision = admit(state.route, self._fleet.load(state), deadline, self._settings)
        if isinstance(decision, RefusedError):
            if decision.code == "deadline_exceeded":
                self._fleet.wake(state)
            raise decision
        return state, decision
