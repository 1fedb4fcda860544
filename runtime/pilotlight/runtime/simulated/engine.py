"""The engine's shell: moves the batch on by the event loop's clock, wakes readers, counts, fails as told.

One timer serves all streams. Readers take what has gathered for them since they last looked, so that a slow reader
costs nothing but larger pieces.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from collections.abc import Sequence as Items
from dataclasses import replace
from math import inf

from .batch import Batch, PrefixCache
from .metrics import Metrics
from .options import Options
from .sequence import Delta, Sequence


class Job:
    """The sequences of one HTTP request and the signal that one of them has moved."""

    __slots__ = ("abandoned", "moved", "sequences")

    def __init__(self) -> None:
        self.sequences: tuple[Sequence, ...] = ()
        self.moved = asyncio.Event()
        self.abandoned = False

    @property
    def done(self) -> bool:
        """Nothing more comes: every sequence has ended, or nobody listens."""
        return self.abandoned or all(sequence.finish_reason for sequence in self.sequences)

    async def deltas(self) -> AsyncIterator[list[tuple[int, Delta]]]:
        """What the sequences make, by their index, as it comes; ends when all have ended."""
        while True:
            await self.moved.wait()
            self.moved.clear()
            done = self.done
            taken = [(index, sequence.take()) for index, sequence in enumerate(self.sequences)]
            news = [(index, delta) for index, delta in taken if delta is not None]
            if news:
                yield news
            if done:
                return


class Engine:
    """Lives in one event loop; `crash` must end the process and is called when the options say so."""

    def __init__(self, options: Options, model: str, crash: Callable[[], None]) -> None:
        self.options = options
        self.metrics = Metrics(model)
        self._loop = asyncio.get_running_loop()
        self._crash = crash
        self._failures = {
            "stall": options.simulated_stall_requests,
            "error": options.simulated_error_requests,
            "drop": options.simulated_drop_requests,
        }
        cache = PrefixCache(options.block_size, options.num_gpu_blocks_override)
        self._batch = Batch(options.timing, options.max_num_seqs, cache if options.enable_prefix_caching else None)
        self._timer: asyncio.Handle | None = None
        self._armed_for = inf
        self._requests = 0
        self._tokens = 0
        self.metrics.watch(lambda: self._batch.running, lambda: self._batch.waiting, self._kv_usage)
        self.metrics.describe_cache(options.block_size, options.num_gpu_blocks_override)

    @property
    def running(self) -> int:
        return self._batch.running

    @property
    def waiting(self) -> int:
        return self._batch.waiting

    def arrive(self) -> None:
        """Count a request that came in; the one after the allowed number ends the process."""
        limit = self.options.simulated_crash_after_requests
        if limit is not None and self._requests >= limit:
            self._crash()
        self._requests += 1

    def fails(self, kind: str) -> bool:
        """Whether this request fails as `kind` ("stall", "error", "drop") says; uses one of the failures up."""
        left = self._failures[kind]
        self._failures[kind] = max(0, left - 1)
        return left > 0

    def submit(self, job: Job, sequences: Items[Sequence]) -> None:
        """Queue the sequences of a job; each sequence's `owner` is the job."""
        job.sequences = tuple(sequences)
        now = self._loop.time()
        stalled = self.fails("stall")
        for sequence in sequences:
            sequence.stalled = stalled
            self._batch.add(sequence, now)
        self._arm()

    def abort(self, job: Job) -> None:
        """Nobody listens any more: drop what is unfinished of a job, free its slots for those who wait."""
        job.abandoned = True
        job.moved.set()
        self._batch.cancel(sequence for sequence in job.sequences if sequence.finish_reason is None)
        self._arm()

    def throttle(self) -> None:
        """Like a processor that has become hot: every time is multiplied; a second call ends it."""
        usual = self.options.timing
        throttled = replace(usual, scale=usual.scale * self.options.simulated_throttle)
        self._batch.timing = throttled if self._batch.timing == usual else usual

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        due = self._batch.next_event()
        if due is None or due >= self._armed_for:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = due
        # A step that is already due still waits for the loop to come round: readers and newcomers go in between.
        self._timer = self._loop.call_at(max(due, self._loop.time()), self._step)

    def _step(self) -> None:
        self._armed_for = inf
        produced = self._batch.advance(self._loop.time())
        generated = computed = 0
        for sequence, since in produced:
            self._count(sequence, since)
            generated += sequence.count > 0
            computed += len(sequence.prompt) - sequence.cached if since is None else 0
            if isinstance(sequence.owner, Job):
                sequence.owner.moved.set()
        if produced:
            self.metrics.generation_tokens.inc(generated)
            self.metrics.step_tokens.observe(generated + computed)
            self._tokens += generated
        limit = self.options.simulated_crash_after_tokens
        if limit is not None and self._tokens >= limit:
            # The tokens made so far still reach their readers, as they would from an engine that dies a step later.
            self._timer = self._loop.call_later(0.01, self._crash)
            return
        self._arm()

    def _count(self, sequence: Sequence, since: float | None) -> None:
        if since is None:
            self.metrics.first(sequence)
        else:
            self.metrics.inter_token.observe(since)
        if sequence.finish_reason is not None:
            self.metrics.finished(sequence)

    def _kv_usage(self) -> float:
        size = self.options.block_size
        used = sum(-(-(len(one.prompt) + one.count) // size) for one in self._batch.running_sequences())
        return min(1.0, used / self.options.num_gpu_blocks_override)
