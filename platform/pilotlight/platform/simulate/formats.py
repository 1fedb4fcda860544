"""The forms that arrivals come in, by name."""

from __future__ import annotations

from enum import StrEnum


class Process(StrEnum):
    """How made-up requests come."""

    POISSON = "poisson"
    GAMMA = "gamma"
    DIURNAL = "diurnal"
    BURST = "burst"
    STEP = "step"


class Format(StrEnum):
    """Traces that can be read, and processes that can be made up."""

    AZURE_LLM = "azure-llm"
    SERVEGEN = "servegen"
    AZURE_FUNCTIONS = "azure-functions"
    CSV = "csv"
    LEDGER = "ledger"
    POISSON = "poisson"
    GAMMA = "gamma"
    DIURNAL = "diurnal"
    BURST = "burst"
    STEP = "step"

    @property
    def process(self) -> Process | None:
        """None: it is read from a file."""
        return Process(self.value) if self.value in list(Process) else None
