"""The batch: who waits, who computes its prompt, who decodes; no I/O, and time only as an argument.

As in a continuously batching engine all decoding sequences advance together, one token a step, and a sequence that has
finished gives its slot to the longest waiting one at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from heapq import heappop, heappush
from itertools import count

from .sequence import Sequence
from .timing import Timing
from .tokens import digest


class PrefixCache:
    """Which whole blocks of prompts have been computed before; the least recently used go first."""

    def __init__(self, block_size: int, blocks: int) -> None:
        self._block_size = block_size
        self._blocks = blocks
        self._known: OrderedDict[tuple[int, int], None] = OrderedDict()

    def admit(self, prompt: tuple[int, ...], salt: int = 0) -> int:
        """Remember a prompt; the answer is how many of its leading tokens were known, at most one less than all.

        Prompts of different `salt` share nothing.
        """
        hit, missed, state = 0, False, salt
        for end in range(self._block_size, len(prompt) + 1, self._block_size):
            state = digest(prompt[end - self._block_size : end], state)
            block = (end, state)
            missed = missed or block not in self._known
            # The last token is always computed: its output is the first new token.
            hit = end if not missed and end < len(prompt) else hit
            self._known[block] = None
            self._known.move_to_end(block)
        while len(self._known) > self._blocks:
            self._known.popitem(last=False)
        return hit


class Batch:
    """The mutable state of the engine: `_waiting`, `_prefilling`, `_decoding`, `_step_at`."""

    def __init__(self, timing: Timing, slots: int, cache: PrefixCache | None) -> None:
        self.timing = timing
        """May be replaced at any time; what is planned already stays."""
        self._slots = slots
        self._cache = cache
        self._waiting: OrderedDict[Sequence, None] = OrderedDict()
        self._prefilling: list[tuple[float, int, Sequence]] = []
        self._decoding: dict[Sequence, None] = {}
        self._stalled: set[Sequence] = set()
        self._step_at: float | None = None
        self._draws = count()

    @property
    def running(self) -> int:
        return len(self._decoding) + len(self._prefilling) + len(self._stalled)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def running_sequences(self) -> Iterable[Sequence]:
        yield from self._decoding
        yield from (entry[2] for entry in self._prefilling)
        yield from self._stalled

    def add(self, sequence: Sequence, now: float) -> None:
        """Queue a sequence; the next `advance` may admit it."""
        sequence.arrived_at = now
        self._waiting[sequence] = None

    def cancel(self, sequences: Iterable[Sequence]) -> None:
        """Drop sequences wherever they are, free their slots; those that have ended are passed over."""
        gone = set(sequences)
        for sequence in gone:
            self._waiting.pop(sequence, None)
            self._decoding.pop(sequence, None)
        self._stalled -= gone
        if any(entry[2] in gone for entry in self._prefilling):
            self._prefilling = sorted(entry for entry in self._prefilling if entry[2] not in gone)
        if not self._decoding:
            self._step_at = None

    def next_event(self) -> float | None:
        """When `advance` has something to do; None: not before a sequence is added or cancelled."""
        if self._waiting and self.running < self._slots:
            return 0.0
        times = [self._prefilling[0][0]] if self._prefilling else []
        if self._decoding and self._step_at is not None:
            times.append(self._step_at)
        return min(times, default=None)

    def advance(self, now: float) -> list[tuple[Sequence, float | None]]:
        """Do all that is due; the answer is each sequence that made a token and the time since its last one."""
        self._admit(now)
        due = self._step_at is not None and self._step_at <= now
        produced = [(one, one.produce(now)) for one in self._decoding] if due else []
        for sequence, _ in produced:
            if sequence.finish_reason is not None:
                del self._decoding[sequence]
        produced += self._finish_prefills(now)
        self._admit(now)
        self._schedule_step(now, due)
        return produced

    def _tokens(self) -> int:
        """Of the streams that decode; counted where they cost time."""
        return sum(len(one.prompt) + one.count for one in self._decoding) if self.timing.decode_token else 0

    def _admit(self, now: float) -> None:
        while self._waiting and self.running < self._slots:
            sequence = self._waiting.popitem(last=False)[0]
            sequence.admitted_at = now
            if sequence.stalled:
                self._stalled.add(sequence)
                continue
            sequence.cached = self._cache.admit(sequence.prompt, sequence.salt) if self._cache else 0
            draw = next(self._draws)
            seconds = self.timing.prefill_seconds(len(sequence.prompt) - sequence.cached, draw)
            heappush(self._prefilling, (now + seconds, draw, sequence))

    def _finish_prefills(self, now: float) -> list[tuple[Sequence, float | None]]:
        produced = []
        while self._prefilling and self._prefilling[0][0] <= now:
            sequence = heappop(self._prefilling)[2]
            produced.append((sequence, sequence.produce(now)))
            if sequence.finish_reason is None:
                self._decoding[sequence] = None
        return produced

    def _schedule_step(self, now: float, stepped: bool) -> None:
        if not self._decoding:
            self._step_at = None
        elif stepped or self._step_at is None:
            seconds = self.timing.decode_seconds(len(self._decoding), next(self._draws), self._tokens())
            # The cadence is kept where a step came a little late, but lost time is not made up in a burst.
            planned = (self._step_at if stepped and self._step_at is not None else now) + seconds
            self._step_at = max(planned, now)
