"""Which platform and which key."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotlight.platform.cli.errors import REFUSED, CommandError
from pilotlight.platform.cli.settings import resolve

LOOPBACK = "http://127.0.0.1:8484"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "admin.key").write_text("pl-from-file\n")
    return tmp_path


def test_the_environment_counts_before_the_file(state: Path) -> None:
    assert resolve(LOOPBACK, state, {"PILOTLIGHT_KEY": "pl-from-environment"}).key == "pl-from-environment"


@pytest.mark.parametrize("url", [LOOPBACK, "http://localhost:1", "http://[::1]:8484/"])
def test_the_admin_key_of_this_machine_is_found(url: str, state: Path) -> None:
    assert resolve(url, state, {}).key == "pl-from-file"


@pytest.mark.parametrize(
    "url", ["https://pilotlight.example.org", "http://10.0.0.1:8484", "http://127.0.0.1.example.org"]
)
def test_the_admin_key_is_never_sent_to_another_machine(url: str, state: Path) -> None:
    assert resolve(url, state, {}).key == ""


def test_no_file_is_no_key(tmp_path: Path) -> None:
    assert resolve(LOOPBACK, tmp_path / "nowhere", {}).key == ""


def test_a_key_file_that_cannot_be_read_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "admin.key").mkdir()

    with pytest.raises(CommandError, match=r"cannot be read .*; run as the user who started `pilotlight up`"):
        resolve(LOOPBACK, tmp_path, {})


@pytest.mark.parametrize("url", ["127.0.0.1:8484", "ftp://x", "http://"])
def test_an_address_that_is_none_is_wrong_usage(url: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="expected http://HOST:PORT") as caught:
        resolve(url, tmp_path, {})

    assert caught.value.code == REFUSED


def test_the_platform_of_the_state_folder_is_found_where_it_announced_itself(state: Path) -> None:
    (state / "up.json").write_text('{"url": "http://127.0.0.1:39123", "pid": 7}')

    assert resolve("", state, {}).url == "http://127.0.0.1:39123"
    assert resolve(LOOPBACK, state, {}).url == LOOPBACK


@pytest.mark.parametrize("content", ["", "[]", '{"url": "x"}', "\udcff"])
def test_an_announcement_that_cannot_be_read_is_none(content: str, state: Path) -> None:
    (state / "up.json").write_text(content, errors="surrogateescape")

    assert resolve("", state, {}).url == LOOPBACK
