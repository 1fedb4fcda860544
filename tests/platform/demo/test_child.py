"""The demo's own platform as a child process."""

from __future__ import annotations

from pathlib import Path

import httpx
import psutil
import pytest

from pilotlight.platform.cli.errors import CommandError
from pilotlight.platform.demo.child import running_platform


def processes_of(state: Path) -> list[psutil.Process]:
    return [each for each in psutil.Process().children(recursive=True) if str(state) in " ".join(each.cmdline())]


def test_it_answers_to_its_admin_key_and_is_gone_afterwards(tmp_path: Path) -> None:
    with running_platform(tmp_path) as settings:
        headers = {"authorization": f"Bearer {settings.key}"}
        answer = httpx.get(f"{settings.url}/api/v1alpha1/functions", headers=headers, trust_env=False)
        assert answer.json() == {"items": []}

    assert processes_of(tmp_path) == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(settings.url, trust_env=False)


def test_it_is_gone_too_when_what_was_done_with_it_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), running_platform(tmp_path):
        raise KeyboardInterrupt

    assert processes_of(tmp_path) == []


def test_a_folder_that_another_has_is_told_in_its_words(tmp_path: Path) -> None:
    with running_platform(tmp_path), pytest.raises(CommandError) as caught, running_platform(tmp_path):
        pass

    assert "did not start" in str(caught.value)
    assert any("a platform runs on" in line for line in caught.value.details)
