"""The phases of a start: each takes its time, is logged line by line, and may fail."""

from __future__ import annotations

from collections.abc import Callable

from .options import Options

STEPS = 10
"""Progress lines of each phase."""


class StartFailedError(Exception):
    """The start ends here, as the options say; carries the exit status."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def report(phase: str, progress: float, detail: str = "") -> str:
    """The line of the log that a supervisor reads progress from."""
    return f"pilotlight-simulated phase={phase} progress={progress:g}" + (f" {detail}" if detail else "")


def start(options: Options, say: Callable[[str], None], sleep: Callable[[float], None]) -> None:
    """Go through import, load and warm-up. Raises `StartFailedError` half-way through the phase that is to fail."""
    phases = {
        "import": options.simulated_import_seconds,
        "load": options.simulated_load_seconds,
        "warmup": options.simulated_warmup_seconds,
    }
    for phase, seconds in phases.items():
        for step in range(STEPS):
            say(report(phase, step / STEPS))
            if phase == options.simulated_fail_phase and 2 * step >= STEPS:
                raise StartFailedError(options.simulated_fail_message, options.simulated_fail_code)
            sleep(seconds * options.simulated_time_scale / STEPS)
        say(report(phase, 1))
