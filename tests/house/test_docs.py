"""What the documentation names is there: links, paths, metrics, commands, operations and error codes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import typer
from prometheus_client import CollectorRegistry

from pilotlight.activator.metrics import Metrics
from pilotlight.platform.api.metrics import registry as fleet_metrics
from pilotlight.platform.api.registry_table import REGISTRY, REGISTRY_PATH
from pilotlight.platform.api.services import Services
from pilotlight.platform.api.table import operations
from pilotlight.platform.cli.main import app
from pilotlight.platform.control.state import Known
from pilotlight.platform.kubernetes.metrics import registry as operator_metrics
from pilotlight.platform.registry.http import registry_routes

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("docs/**/*.md"), *ROOT.glob("*.md"), ROOT / "examples" / "README.md"])
PARTS = (
    "activator",
    "benchmarks",
    "detector",
    "docs",
    "examples",
    "manifests",
    "platform",
    "recommender",
    "runtime",
    "tests",
)
BY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PATH = re.compile(rf"(?:{'|'.join(PARTS)})/[\w./-]*")
_MODULE = re.compile(r"\w+\.py")


def prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """The headings' ids, as code hosts make them."""
    titles = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@BY_PAGE
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(prose(page)):
        path, _, anchor = link.partition("#")
        if path.startswith(("http://", "https://")):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@BY_PAGE
def test_paths_and_modules_that_are_named_exist(page: Path) -> None:
    for named in _CODE.findall(prose(page)):
        if _PATH.fullmatch(named):
            assert (ROOT / named).exists(), named
        elif _MODULE.fullmatch(named):
            assert any(found for part in PARTS for found in (ROOT / part).rglob(named)), named


# Metrics


def exposed() -> set[str]:
    """Names of the families, counters with the suffix that they are scraped with."""
    registries: tuple[CollectorRegistry, ...] = (
        Metrics(dict).registry,
        fleet_metrics(Known),
        operator_metrics(lambda: None, lambda: 0),
    )
    return {
        f"{family.name}_total" if family.type == "counter" else family.name
        for registry in registries
        for family in registry.collect()
    }


def test_metrics_that_are_named_are_exposed_and_all_are_named_in_operations() -> None:
    named = {name for page in PAGES for name in re.findall(r"\bpilotlight_\w+", page.read_text())}

    assert named == exposed()
    assert set(re.findall(r"\bpilotlight_\w+", (ROOT / "docs/operations.md").read_text())) == named


# Commands


@cache
def root() -> Any:  # typer names no public type of its commands
    return typer.main.get_command(app)


def find(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words begin with, and the rest. Global options with their values are passed over."""
    command, rest = root(), words
    while hasattr(command, "commands"):
        while rest and rest[0] in ("--url", "--state"):
            rest = rest[2:]
        if not rest or rest[0].startswith("-") or (command.invoke_without_command and rest[0] not in command.commands):
            return command, rest
        assert rest[0] in command.commands, f"there is no command {' '.join(words)}"
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


def check_options(words: list[str]) -> None:
    """For a mention, which may leave out arguments and values."""
    command, rest = find(words)
    known = {option for parameter in command.params for option in parameter.opts} | {"-h", "--help"}
    unknown = [word for word in rest if word.startswith("-") and word not in known]
    assert not unknown, f"pilotlight {' '.join(words)}: {unknown}"


def check_whole(words: list[str]) -> None:
    """For a line that somebody copies into a shell."""
    command, rest = find(words)
    command.make_context(str(command.name), rest)


def shell_lines(page: Path) -> Iterator[list[str]]:
    for language, block in _FENCE.findall(page.read_text()):
        for line in block.replace("\\\n", " ").splitlines() if language == "sh" else ():
            words = shlex.split(line, comments=True)
            if words[:1] == ["pilotlight"]:
                yield words[1:]


@BY_PAGE
def test_commands_that_are_named_exist_with_their_options(page: Path) -> None:
    for words in shell_lines(page):
        check_whole(words)
    for code in _CODE.findall(prose(page)):
        if code == "pilotlight" or code.startswith("pilotlight "):
            check_options(shlex.split(code)[1:])


def test_a_command_or_option_that_is_not_there_is_found_out() -> None:
    with pytest.raises(AssertionError, match="no command rollout"):
        check_options(["rollout", "undo"])
    with pytest.raises(AssertionError, match="--fallow"):
        check_options(["logs", "chat", "--fallow"])
    with pytest.raises(Exception, match="week"):
        check_whole(["usage", "--by", "week"])


# The HTTP interface


def test_every_operation_is_in_the_table_with_its_query_and_rights() -> None:
    page = (ROOT / "docs/http.md").read_text().partition("<!-- operations:")[2].partition("\n\n`function`")[0]
    rows = re.findall(r"^\| `([A-Z]+ /\S+)` \|\s*(.*?)\s*\| (.*) \|$", page, flags=re.MULTILINE)
    told = {(name, tuple(re.findall(r"`(\w+)`", query)), "(admin)" in what) for name, query, what in rows}

    table = operations(cast("Services", None))  # handlers are made and not called
    assert told == {(f"{row.method} {row.path}", tuple(row.query.model_fields), row.admin) for row in table}


def registry_served() -> set[tuple[str, str]]:
    """Methods and paths below a bucket."""

    async def nobody(_request: object) -> Any:
        raise AssertionError

    found = set()
    for route in registry_routes(lambda _bucket: None, nobody):
        methods = route.methods or set()
        # Starlette answers HEAD wherever there is a GET.
        found |= {(method, route.path) for method in methods - ({"HEAD"} if "GET" in methods else set())}
    return found


def test_every_operation_of_the_registry_is_in_its_table_and_in_the_document() -> None:
    page = (ROOT / "docs/http.md").read_text().partition("| request below `/registry/BUCKET` |")[2]
    told = set()
    for cell in re.findall(r"^\| (`[A-Z].*?) \| ", page, flags=re.MULTILINE):
        methods, path = re.findall(r"`([A-Z]+)", cell), re.findall(r"(/\w+(?:/KEY)?)", cell)[-1]
        told |= {(method, "/{bucket}" + path.replace("KEY", "{key:path}")) for method in methods}

    served = registry_served()
    assert told == served
    assert {(row.method, row.path.removeprefix(REGISTRY_PATH)) for row in REGISTRY} == served
    assert len(REGISTRY) == len(served)


def test_every_code_of_a_refusal_is_told() -> None:
    page = (ROOT / "docs/http.md").read_text()
    sources = [*(ROOT / "activator").rglob("*.py"), *(ROOT / "platform/pilotlight/platform/api").rglob("*.py")]
    pattern = re.compile(r"(?:RefusedError|HttpError)\(\s*\d+,\s*\"(\w+)\"|code\s*=\s*\"(\w+)\"|code: str = \"(\w+)\"")
    codes = {code for path in sources for found in pattern.findall(path.read_text()) for code in found if code}

    assert len(codes) >= 20
    assert {code for code in codes - {"error"} if f"`{code}`" not in page} == set()


# Decisions


def test_records_are_listed_and_have_their_four_parts() -> None:
    folder = ROOT / "docs/decisions"
    records = sorted(path for path in folder.glob("*.md") if path.name != "README.md")

    assert [path.name for path in records] == re.findall(
        r"\]\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text()
    )
    for number, record in enumerate(records, 1):
        text = record.read_text()
        assert text.startswith(f"# {number:04d}: ")
        parts = re.findall(r"^\*\*(\w+)\.\*\* ", text, flags=re.MULTILINE)
        assert parts == ["Context", "Decision", "Alternatives", "Consequences"], record.name
