"""What `pilotlight up` is told, and what it refuses to be told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pilotlight.platform.embedded.machine import parse_devices
from pilotlight.platform.settings import Settings, SettingsError, allowed_buckets, default_state, registry_address
from pilotlight.platform.statefolder import StateFolder, StateFolderError
from pilotlight.recommender import Device


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param({"host": "0.0.0.0"}, "not loopback", id="every address"),
        pytest.param({"host": "192.0.2.1"}, "not loopback", id="another machine's"),
        pytest.param({"host": "example.org"}, "not loopback", id="a name"),
        pytest.param({"port": 65536}, "port", id="no port"),
        pytest.param({"memory_bytes": 0}, "memory", id="no memory"),
        pytest.param({"max_held": 0}, "wait", id="nobody may wait"),
    ],
)
def test_what_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Settings(state=Path("/x"), **options)


def test_a_request_may_be_held_for_the_longest_start_and_a_turn_after_it() -> None:
    assert Settings(state=Path("/x")).hold_seconds == 1800 + 600
    assert Settings(state=Path("/x"), start_seconds=5.0).hold_seconds == 605


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.5.5.5"])
def test_loopback_needs_no_consent(host: str) -> None:
    assert Settings(state=Path("/x"), host=host).host == host


def test_other_addresses_need_consent() -> None:
    assert Settings(state=Path("/x"), host="0.0.0.0", allow_any_host=True).host == "0.0.0.0"


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        pytest.param({"PILOTLIGHT_STATE": "/a", "XDG_STATE_HOME": "/b"}, "/a", id="ours first"),
        pytest.param({"XDG_STATE_HOME": "/b"}, "/b/pilotlight", id="then the desktop's"),
        pytest.param({}, str(Path("~/.local/state/pilotlight").expanduser()), id="then the home folder"),
    ],
)
def test_the_state_folder(environment: dict[str, str], folder: str) -> None:
    assert default_state(environment) == Path(folder)


@pytest.mark.parametrize(
    ("registry", "environment", "address"),
    [
        pytest.param("", {}, "file:///x/registry", id="a folder by default"),
        pytest.param("", {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}, "s3", id="S3 where it is set up"),
        pytest.param("file:///models", {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}, "file:///models", id="as told"),
    ],
)
def test_where_models_are(registry: str, environment: dict[str, str], address: str) -> None:
    assert registry_address(Settings(state=Path("/x"), registry=registry), environment) == address


@pytest.mark.parametrize(
    ("told", "buckets"),
    [
        pytest.param("", set(), id="any"),
        pytest.param("models", {"models"}, id="one"),
        pytest.param(" models, team-a,,", {"models", "team-a"}, id="with spaces"),
    ],
)
def test_which_buckets_may_hold_models(told: str, buckets: set[str]) -> None:
    assert allowed_buckets({"PILOTLIGHT_BUCKETS": told}) == buckets


def test_one_platform_per_folder(tmp_path: Path) -> None:
    first = StateFolder(tmp_path / "state")
    first.announce("http://127.0.0.1:5")

    with pytest.raises(StateFolderError, match=r"runs on .* already, at http://127.0.0.1:5"):
        StateFolder(tmp_path / "state")

    first.close()
    StateFolder(tmp_path / "state").close()


def test_devices_as_their_driver_tells_them() -> None:
    text = "GPU-1, NVIDIA H100 80GB HBM3, 81559\nNo devices were found\nGPU-2, A, many\n"

    assert parse_devices(text) == (Device("GPU-1", "NVIDIA H100 80GB HBM3", 81559 * 2**20),)
