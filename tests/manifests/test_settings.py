"""docs/kubernetes.md lists every setting of the two processes with its default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pilotlight.platform.kubernetes.settings import PREFIX, ActivatorSettings, OperatorSettings, ProcessSettings

PAGE = Path(__file__).parents[2] / "docs" / "kubernetes.md"
ROW = re.compile(r"^\| `(PILOTLIGHT_\w+)` \| (both|operator|activator) \| ([^|]+) \| [^|]+ \|$", re.MULTILINE)
BY_THE_POD = {"PILOTLIGHT_NAMESPACE", "PILOTLIGHT_POD_NAME"}
"""Their defaults are told in words."""


def default(value: Any) -> str:
    return "none" if value in (None, "") else f"{value:.0f}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize(("component", "settings"), [("operator", OperatorSettings), ("activator", ActivatorSettings)])
def test_every_setting_is_listed_with_its_default(component: str, settings: type[ProcessSettings]) -> None:
    told = {name: what.strip(" `") for name, who, what in ROW.findall(PAGE.read_text()) if who in ("both", component)}
    wanted = {
        PREFIX + name.upper(): "required" if field.is_required() else default(field.default)
        for name, field in settings.model_fields.items()
    }
    assert told.keys() == wanted.keys()
    assert {name: what for name, what in told.items() if name not in BY_THE_POD} == {
        name: what for name, what in wanted.items() if name not in BY_THE_POD
    }
