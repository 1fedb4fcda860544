"""Where a process's log goes."""

from __future__ import annotations

import sys

import structlog


def log_to_stderr() -> None:
    """For people in a terminal with the time of day, JSON lines with the date in UTC for everybody else."""
    people = sys.stderr.isatty()
    times = structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
    dates = structlog.processors.TimeStamper(fmt="iso", utc=True)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            *([times] if people else [dates, structlog.processors.format_exc_info]),
            structlog.dev.ConsoleRenderer() if people else structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
