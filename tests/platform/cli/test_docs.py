"""The command line's reference: current, complete, and the same from whatever terminal it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotlight.platform.cli.docs import WIDTH, render

PAGE = Path(__file__).parents[3] / "docs" / "cli.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == render(), "run: python -m pilotlight.platform.cli.docs > docs/cli.md"


def test_the_page_does_not_depend_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    page = render()
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("PILOTLIGHT_STATE", "/somewhere/else")

    assert render() == page


@pytest.mark.parametrize("command", ["up", "deploy", "models import", "keys revoke"])
def test_every_command_has_a_section(command: str) -> None:
    assert f"\n## `pilotlight {command}`\n" in render()


def test_hidden_options_stay_hidden() -> None:
    assert "--record" not in render()


def test_help_texts_keep_to_the_width() -> None:
    blocks = render().split("```text\n")[1:]

    assert max(len(line) for block in blocks for line in block.split("```")[0].splitlines()) <= WIDTH
