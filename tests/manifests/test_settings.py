"""docs/kubernetes.md lists every setting of the two processes with its default, and an overlay can set them."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pilotlight.platform.doctor.podprobe import pod_of
from pilotlight.platform.install.rendering import deployments
from pilotlight.platform.kubernetes.kinds import Object
from pilotlight.platform.kubernetes.settings import PREFIX, ActivatorSettings, OperatorSettings, ProcessSettings

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `(PILOTLIGHT_\w+)` \| (both|operator|activator) \| ([^|]+) \| [^|]+ \|$", re.MULTILINE)
BY_THE_POD = {"PILOTLIGHT_NAMESPACE", "PILOTLIGHT_POD_NAME"}
"""Their defaults are told in words."""
READ_ELSEWHERE = {"PILOTLIGHT_BUCKETS": "none", "PILOTLIGHT_S3_PUBLIC_ENDPOINT": "none", "PILOTLIGHT_S3_STYLE": "auto"}
"""By both processes, each where it is needed."""
OF_OTHERS = ("platform/cli", "platform/demo", "platform/doctor", "platform/install", "runtime/podspec.py")
"""Commands, and the pods of functions."""


def default(value: Any) -> str:
    return "none" if value in (None, "") else f"{value:.0f}" if isinstance(value, float) else str(value)


def named() -> Iterator[str]:
    """Variables of ours that the code of the two processes names, beside their settings' fields."""
    for part in ("platform", "activator", "runtime", "recommender", "detector"):
        sources = ROOT / part / "pilotlight"
        for path in sources.rglob("*.py"):
            if not path.relative_to(sources).as_posix().startswith(OF_OTHERS):
                for node in ast.walk(ast.parse(path.read_text())):
                    text = node.value if isinstance(node, ast.Constant) else None
                    if isinstance(text, str) and re.fullmatch(rf"{PREFIX}[A-Z0-9_]+", text):
                        yield text


@pytest.mark.parametrize(("component", "settings"), [("operator", OperatorSettings), ("activator", ActivatorSettings)])
def test_every_setting_is_listed_with_its_default(component: str, settings: type[ProcessSettings]) -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    told = {name: what.strip(" `") for name, who, what in ROW.findall(page) if who in ("both", component)}
    wanted = READ_ELSEWHERE | {
        PREFIX + name.upper(): "required" if field.is_required() else default(field.default)
        for name, field in settings.model_fields.items()
    }
    assert told.keys() == wanted.keys()
    assert {name: what for name, what in told.items() if name not in BY_THE_POD} == {
        name: what for name, what in wanted.items() if name not in BY_THE_POD
    }


def test_no_variable_is_read_that_is_not_listed() -> None:
    fields = {PREFIX + name.upper() for kind in (OperatorSettings, ActivatorSettings) for name in kind.model_fields}
    assert set(named()) - fields == READ_ELSEWHERE.keys()


def test_an_overlay_sets_them_for_both_processes_and_a_change_rolls_them(
    overlaid: Callable[[str], Sequence[Object]],
) -> None:
    """As the page has it."""
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    (text,) = re.findall(r"^```yaml\n(resources:.*?pilotlight-settings.*?)^```$", page, re.DOTALL | re.MULTILINE)
    objects = overlaid(text)
    one, other = (_settings(found) for found in (objects, overlaid(text.replace("MAX_HELD=5000", "MAX_HELD=6000"))))

    assert one["data"] == {"PILOTLIGHT_MAX_HELD": "5000", "PILOTLIGHT_BUCKETS": "models,team-a"}
    assert one["metadata"]["name"] != other["metadata"]["name"]
    assert len(list(deployments(objects))) == 2
    for deployment in deployments(objects):
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        names = [each["configMapRef"]["name"] for each in container["envFrom"] if "configMapRef" in each]
        assert names == [one["metadata"]["name"]]


def test_the_doctors_pod_reaches_storage_by_the_same_settings(rendered: Callable[[str], Sequence[Object]]) -> None:
    (operator,) = (
        found for found in deployments(rendered("base")) if found["metadata"]["name"] == "pilotlight-operator"
    )
    sources = operator["spec"]["template"]["spec"]["containers"][0]["envFrom"]
    (container,) = pod_of(operator, "doctor")["spec"]["containers"]

    assert container["envFrom"] == sources
    assert [each["name"] for each in container["env"]] == ["PILOTLIGHT_DATABASE_URL"]


def _settings(objects: Sequence[Object]) -> Object:
    (found,) = (each for each in objects if each["kind"] == "ConfigMap")
    return found
