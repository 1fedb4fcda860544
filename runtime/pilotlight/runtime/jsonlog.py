"""What a supervisor says of itself: JSON lines, whichever way they go."""

from __future__ import annotations

import json
import logging

_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class _JsonLines(logging.Formatter):
    """One JSON object per line, with what was given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {"time": round(record.created, 3), "level": record.levelname.lower()}
        line |= {"event": record.getMessage()}
        line |= {name: value for name, value in vars(record).items() if name not in _KNOWN}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def json_log(handler: logging.Handler) -> logging.Logger:
    """The supervisor's log, written by the handler."""
    log = logging.getLogger("pilotlight.supervisor")
    log.setLevel(logging.INFO)
    log.propagate = False
    handler.setFormatter(_JsonLines())
    log.addHandler(handler)
    return log
