"""What a process's log looks like to a collector."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
import structlog

from pilotlight.platform.logging import log_to_stderr


def test_each_line_is_json_with_its_moment_in_utc_and_its_exception(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr()
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().exception("it failed", part="one")

    line = json.loads(capsys.readouterr().err)
    moment = datetime.fromisoformat(line["timestamp"])
    assert (line["event"], line["level"], line["part"]) == ("it failed", "error", "one")
    assert "ValueError: broken" in line["exception"]
    assert moment.utcoffset() == timedelta()
    assert moment <= datetime.now(UTC)
