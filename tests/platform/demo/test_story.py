"""What the story does beside telling."""

from __future__ import annotations

import io
import signal
from pathlib import Path

import pytest
from rich.console import Console

from pilotlight.platform.demo.story import MANIFEST, as_svg, interrupted_by, shown_path
from pilotlight.platform.manifest import load


def test_its_manifest_has_six_lines_and_is_valid() -> None:
    [function] = load(MANIFEST, "demo")

    assert len(MANIFEST.splitlines()) == 6
    assert function.full_name == "default/chat"


def test_a_picture_of_it_asks_nobody_for_anything() -> None:
    console = Console(record=True, file=io.StringIO(), width=40)
    console.print("The capital of France is Paris.")

    picture = as_svg(console)

    assert "Paris" in picture
    assert "url(" not in picture.replace("url(#", "")


def test_a_signal_to_end_runs_every_way_out_and_is_undone_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt), interrupted_by(signal.SIGTERM):
        signal.raise_signal(signal.SIGTERM)

    assert signal.getsignal(signal.SIGTERM) is before


def test_paths_are_short_where_they_can_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    assert shown_path(tmp_path / ".demo") == ".demo"
    assert shown_path(Path("/var/demo")) == "/var/demo"
