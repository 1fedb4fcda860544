"""How long the simulated engine takes: pure functions, all times in seconds.

Time to the first token is linear in the prompt tokens that have to be computed, and the time of one decode step is
linear in the number of streams that decode together, and in their tokens where that is asked for: the laws that a
continuously batching engine follows between saturation points. A request's wait for a slot comes on top and is not
modelled here; it follows from the slots.
"""

from __future__ import annotations

from dataclasses import dataclass

from .mixing import fraction


@dataclass(frozen=True)
class Timing:
    """The coefficients of both laws; `scale` multiplies every result, 0 makes the engine answer at once."""

    prefill_base: float = 0.02  # seconds
    prefill_token: float = 0.0002  # seconds for each prompt token that is not cached
    decode_base: float = 0.02  # seconds for a step
    decode_stream: float = 0.0002  # seconds more for each stream of the step
    decode_token: float = 0.0  # seconds more for each token, of prompt and answer, that these streams have
    jitter: float = 0.0  # half width of the spread, as a share of the time: 0.1 is 90 % to 110 %
    scale: float = 1.0
    seed: int = 0

    def prefill_seconds(self, tokens: int, draw: int = 0) -> float:
        """From admission to the first token. `draw` numbers the event and picks its jitter."""
        return self._spread(self.prefill_base + self.prefill_token * tokens, draw)

    def decode_seconds(self, streams: int, draw: int = 0, tokens: int = 0) -> float:
        """From one token of each of `streams` to the next; `tokens`: what they have together."""
        return self._spread(self.decode_base + self.decode_stream * streams + self.decode_token * tokens, draw)

    def _spread(self, seconds: float, draw: int) -> float:
        if self.jitter == 0.0:
            return seconds * self.scale
        factor = 1.0 + self.jitter * (2.0 * fraction(self.seed * 1_000_003 + draw) - 1.0)
        return seconds * self.scale * factor
