"""The changelog speaks of the version that the package carries."""

import re
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_changelog_has_a_section_for_this_version() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert version("pilotlight") in headings or headings[0] == "Unreleased"
