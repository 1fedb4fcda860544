"""One generated sequence: its limits, the tokens it has made, and why it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .tokens import END_OF_TURN, WORD_LENGTH, Continuation, word_text


@dataclass(frozen=True)
class Limits:
    """When a sequence ends, by vLLM's rules."""

    max_tokens: int
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    include_stop: bool = False


class Delta(NamedTuple):
    """What a sequence has made since it was last asked."""

    ids: list[int]
    text: str
    finish_reason: str | None
    stop_reason: int | str | None


class Sequence:
    """A request for one continuation of one prompt; `Batch` moves it, its reader takes what it made."""

    __slots__ = (
        "_continuation", "_ids", "_limits", "_longest_stop", "_text", "_told",
        "admitted_at", "arrived_at", "cached", "count", "finish_reason", "first_at",
        "last_at", "owner", "prompt", "salt", "stalled", "stop_reason",
    )  # fmt: skip

    def __init__(
        self,
        prompt: tuple[int, ...],
        continuation: Continuation | None,
        limits: Limits,
        owner: object = None,
        salt: int = 0,
    ) -> None:
        """Without a continuation it ends where a generating one would make its first token."""
        self._continuation = continuation
        self._limits = limits
        self._longest_stop = max(map(len, limits.stop), default=0)
        self._ids: list[int] = []
        self._text = ""
        self._told = False
        self.prompt = prompt
        self.owner = owner
        self.salt = salt
        self.cached = 0
        self.count = 0
        self.stalled = False
        self.finish_reason: str | None = None
        self.stop_reason: int | str | None = None
        self.arrived_at = self.admitted_at = self.first_at = self.last_at = 0.0

    def produce(self, now: float) -> float | None:
        """Make the next token, at time `now`; the answer is the time since the one before, None for the first."""
        since, self.last_at = (now - self.last_at if self.count else None), now
        if since is None:
            self.first_at = now
        if self._continuation is None:
            self.finish_reason = "stop"
            return since
        may_end = not self._limits.ignore_eos and self.count >= self._limits.min_tokens
        token = self._continuation.next(may_end)
        self.count += 1
        self._ids.append(token)
        self._judge(token)
        return since

    def take(self) -> Delta | None:
        """Hand over what is new, the end once; None: nothing is."""
        if self._told or not (self._ids or self.finish_reason):
            return None
        end = len(self._text) if self.finish_reason else self._settled()
        delta = Delta(self._ids, self._text[:end], self.finish_reason, self.stop_reason)
        self._ids, self._text = [], self._text[end:]
        self._told = self.finish_reason is not None
        return delta

    def _judge(self, token: int) -> None:
        past_minimum = self.count >= self._limits.min_tokens
        if token == END_OF_TURN:
            self.finish_reason = "stop"
        elif past_minimum and token in self._limits.stop_token_ids:
            self.finish_reason, self.stop_reason = "stop", token
        else:
            self._text += word_text(token)
            if past_minimum:
                self._cut_at_stop()
        if self.finish_reason is None and self.count >= self._limits.max_tokens:
            self.finish_reason = "length"

    def _cut_at_stop(self) -> None:
        # A stop string that the newest word completed lies within this tail.
        start = max(0, len(self._text) - WORD_LENGTH - self._longest_stop)
        for stop in self._limits.stop:
            at = self._text.find(stop, start)
            if at >= 0:
                self._text = self._text[: at + len(stop) if self._limits.include_stop else at]
                self.finish_reason, self.stop_reason = "stop", stop
                return

    def _settled(self) -> int:
        """How much of the text no later token can take back: a stop string may have begun in the rest."""
        return max(0, len(self._text) - max(0, self._longest_stop - 1))
