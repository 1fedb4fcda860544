"""Why nothing could be measured."""

from __future__ import annotations


class CalibrationError(Exception):
    """The engine did not start, did not answer, or not in time; the message is for the user.

    Args:
        sentence: What happened, and what to do next where that is known.
        lines: The last of the engine's log.
    """

    def __init__(self, sentence: str, lines: tuple[str, ...] = ()) -> None:
        super().__init__(sentence)
        self.lines = lines
