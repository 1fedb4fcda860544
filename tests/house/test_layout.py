"""The five source roots share one namespace package and must not hide the standard library."""

import importlib
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("platform", "activator", "runtime", "recommender", "detector")


def test_import_platform_is_the_standard_library() -> None:
    assert platform.python_version() == sys.version.split()[0]
    assert platform.__file__ is not None
    assert not Path(platform.__file__).is_relative_to(ROOT / "platform")


def test_import_platform_is_the_standard_library_even_from_the_repository_root() -> None:
    printed = subprocess.run(
        [sys.executable, "-c", "import platform; print(platform.system())"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert printed.strip() == platform.system()


@pytest.mark.parametrize("part", PARTS)
def test_source_roots_are_namespace_portions(part: str) -> None:
    assert not (ROOT / part / "__init__.py").exists()
    assert not (ROOT / part / "pilotlight" / "__init__.py").exists()
    assert (ROOT / part / "pilotlight" / part / "__init__.py").exists()
    assert (ROOT / part / "pilotlight" / part / "py.typed").exists()


def test_namespace_package_spans_all_parts() -> None:
    namespace = importlib.import_module("pilotlight")
    assert namespace.__file__ is None
    assert {Path(entry) for entry in namespace.__path__} >= {ROOT / part / "pilotlight" for part in PARTS}


def test_test_folders_are_not_packages() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []
