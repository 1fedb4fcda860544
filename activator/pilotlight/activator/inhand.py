"""A request in hand, from admission to its ledger row. Kept small: ten thousand of these are held during a start."""

from __future__ import annotations

from array import array

from pilotlight.activator.channel import Channel
from pilotlight.activator.errors import RefusedError
from pilotlight.activator.parking import Parking, Watch
from pilotlight.activator.queueing import Ticket
from pilotlight.activator.requests import Parsed
from pilotlight.activator.state import RevisionState
from pilotlight.activator.traffic import ANYWHERE, Address
from pilotlight.activator.values import Usage


class Several:
    """Tokens of a stream of several choices: an engine's running usage is of one choice and of that one's prompt."""

    __slots__ = ("_completions", "_prompts", "choices")

    def __init__(self, choices: int) -> None:
        self.choices = choices  # of each prompt
        self._completions: dict[int, int] = {}
        self._prompts: dict[int, int] = {}

    def made(self, choice: int, ids: int, running: int) -> None:
        """So many ids have come, and the choice has that many tokens by the engine's own count; the larger is right."""
        self._completions[choice] = max(self._completions.get(choice, 0) + ids, running)

    def asked(self, choice: int, tokens: int) -> None:
        prompt = choice // self.choices
        self._prompts[prompt] = max(self._prompts.get(prompt, 0), tokens)

    @property
    def prompt_tokens(self) -> int:
        return sum(self._prompts.values())

    @property
    def completion_tokens(self) -> int:
        return sum(self._completions.values())


class InHand(Ticket):
    """Times are monotonic seconds unless said otherwise; counts are of the attempt that runs."""

    __slots__ = (
        "_cold_before",
        "_cold_mark",
        "adapter",
        "address",
        "admitted_at",
        "arrived",
        "attempts",
        "beat_at",
        "begun",
        "cached_tokens",
        "channel",
        "choices",
        "cold",
        "completion_tokens",
        "endpoint",
        "expires",
        "id",
        "key",
        "max_tokens",
        "outcome",
        "parking",
        "progress",
        "prompt_tokens",
        "reason",
        "refusal",
        "replica",
        "rest",
        "revision",
        "served_from",
        "served_until",
        "several",
        "single",
        "start_seconds",
        "state",
        "status",
        "stream",
        "token_ids",
        "ttft",
        "via_service",
        "waited",
        "wants",
        "watch",
        "writing_since",
    )

    def __init__(
        self,
        state: RevisionState,
        *,
        id: str,  # noqa: A002
        key: str,
        adapter: str = "",
        address: Address = ANYWHERE,
        asked: Parsed,
        progress: bool,
        arrived: float,
        admitted_at: float,
        hold_seconds: float,
        beat_at: float,
    ) -> None:
        super().__init__(batch=state.route.slo_class == "batch")
        self.id = id
        self.state = state
        self.key = key
        self.endpoint = asked.endpoint
        self.adapter = adapter
        self.address = address
        self.rest = asked.rest
        self.stream = asked.stream
        self.wants = asked.wants
        self.single = asked.single
        self.choices = asked.choices
        self.max_tokens = asked.max_tokens
        self.progress = progress
        self.arrived = arrived
        self.admitted_at = admitted_at  # Unix time
        self.expires = arrived + hold_seconds
        self.beat_at = beat_at
        self.cold = state.is_cold
        self.revision = state.route.revision
        self.replica = ""
        self.via_service = False  # given to one that may hold it further (`Replica.via_service`)
        self.attempts = 0  # engines that may have begun to work on it
        self.begun = False  # the engine's first byte was here: never sent twice from then on
        self.parking = Parking()
        self.channel: Channel | None = None  # once its stream has begun: heartbeats go there
        self.watch: Watch | None = None
        self.writing_since: float | None = None  # the client's side is full since then
        self.refusal: RefusedError | None = None
        self.waited = 0.0
        self.start_seconds = 0.0
        self.served_from: float | None = None
        self.served_until: float | None = None
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.cached_tokens = 0
        self.token_ids: array[int] | None = None
        """Generated ids of a single-choice stream so far: what another replica would continue from."""
        self.several: Several | None = None
        """What a stream of several choices has made so far, by choice."""
        self.ttft: float | None = None  # of streams; an answer in one piece does not tell
        self.outcome, self.status, self.reason = "running", 0, ""
        self._cold_mark = state.cold_clock(arrived)
        self._cold_before = 0.0

    @property
    def model(self) -> str:
        """What the engine knows it by."""
        return self.adapter or self.state.route.model

    def moves(self, state: RevisionState, now: float) -> None:
        """It belongs to another revision from now on."""
        self.note_waits(now)
        self.state, self.revision = state, state.route.revision
        self._cold_before, self._cold_mark = self.start_seconds, state.cold_clock(now)

    def refuse(self, refusal: RefusedError) -> None:
        """End the hold; the request's own task tells the client."""
        self.refusal = refusal
        self.parking.poke()

    def released(self, now: float) -> None:
        """A slot was given: from here on it is served, unless that replica is lost, or it waits on behind a service."""
        assert self.lane is not None
        self.note_waits(now)
        self.replica = self.lane.replica.id
        self.via_service = self.lane.replica.via_service
        if not (self.via_service and self.stream):
            self.served_from = now
        self.parking.poke()

    def reached(self, now: float) -> None:
        """The engine has taken it: a stream that waited behind a service waits no longer."""
        if self.served_from is None:
            self.note_waits(now)
            self.served_from = now

    def unserved(self) -> None:
        """Its replica was lost before the first byte: back to waiting."""
        self.served_from = None
        self.replica = ""

    def note_waits(self, now: float) -> None:
        """Bring `waited` and `start_seconds` up to date; they stand still while it is served."""
        if self.served_from is None:
            self.waited = now - self.arrived
            self.start_seconds = min(self.waited, self._cold_before + self.state.cold_clock(now) - self._cold_mark)

    def end(self, outcome: str, status: int, reason: str = "") -> None:
        """The first end counts."""
        if self.outcome == "running":
            self.outcome, self.status, self.reason = outcome, status, reason

    def usage(self, now: float) -> Usage:
        self.note_waits(now)
        until = self.served_until if self.served_until is not None else now
        return Usage(
            request=self.id,
            key=self.key,
            function=self.state.route.function,
            revision=self.revision,
            admitted_at=self.admitted_at,
            replica=self.replica,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cached_tokens=self.cached_tokens,
            max_tokens=self.max_tokens,
            queue_seconds=max(0.0, self.waited - self.start_seconds),
            start_seconds=self.start_seconds,
            serve_seconds=0.0 if self.served_from is None else max(0.0, until - self.served_from),
            ttft_seconds=self.ttft,
            cold=self.cold,
            outcome=self.outcome,
            status=self.status,
            reason=self.reason,
        )
