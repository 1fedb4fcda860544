"""Settings of a cluster's processes, from the environment."""

from __future__ import annotations

import pytest

from pilotlight.platform.kubernetes.settings import ActivatorSettings, OperatorSettings, read
from pilotlight.platform.settings import SettingsError

GIVEN = {
    "HOSTNAME": "operator-0",
    "PILOTLIGHT_DATABASE_URL": "postgresql://user:hunter2@db/x",
    "PILOTLIGHT_MASTER_KEY": "m" * 32,
    "PILOTLIGHT_RUNTIME_IMAGE": "runtime:1",
    "PILOTLIGHT_SIMULATED_IMAGE": "control:1",
}


def test_variables_are_read_by_their_names() -> None:
    settings = read(OperatorSettings, {**GIVEN, "PILOTLIGHT_DRAIN_SECONDS": "7.5", "PATH": "/bin"})

    assert (settings.pod_name, settings.drain_seconds, settings.runtime_image) == ("operator-0", 7.5, "runtime:1")
    assert settings.database_url.get_secret_value() == GIVEN["PILOTLIGHT_DATABASE_URL"]


def test_an_empty_variable_is_as_good_as_none() -> None:
    assert read(OperatorSettings, {**GIVEN, "PILOTLIGHT_CONTROL_PORT": ""}).control_port == 9443


def test_both_processes_may_have_the_same_environment() -> None:
    assert read(ActivatorSettings, GIVEN).http_port == 8080


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PILOTLIGHT_MASTER_KEY", "hunter2"),
        ("PILOTLIGHT_DATABASE_URL", ""),
        ("PILOTLIGHT_SPOOL_BYTES", "hunter2"),
        ("PILOTLIGHT_CONTROL_PORT", "tcp://hunter2:9443"),
        ("PILOTLIGHT_DRAIN_SECONDS", "-1"),
        ("PILOTLIGHT_MAX_HELD", "0"),
    ],
)
def test_a_mistake_names_the_variable_and_never_its_value(variable: str, value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read(OperatorSettings, {**GIVEN, variable: value})

    assert str(refused.value).startswith(f"{variable}: ")
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_secrets_do_not_show() -> None:
    settings = read(OperatorSettings, {**GIVEN, "PILOTLIGHT_ADMIN_KEY": "a-secret-of-admins"})

    for text in (repr(settings), str(settings)):
        assert "hunter2" not in text
        assert "m" * 32 not in text
        assert "a-secret" not in text
