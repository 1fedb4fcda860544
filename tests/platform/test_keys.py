"""Keys: what a secret opens, and that only its hash is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotlight.activator.values import Clock, FunctionId
from pilotlight.platform.database.connection import Database
from pilotlight.platform.database.records import Keys
from pilotlight.platform.keys import Keyring

CHAT = FunctionId("team-a", "chat")


@pytest.fixture
def ring(database: Database, clock: Clock) -> Keyring:
    return Keyring(Keys(database), clock)


def test_a_secret_opens_what_its_key_may_see(ring: Keyring) -> None:
    record, secret = ring.create("ci", namespaces=["team-a"], functions=[CHAT])

    caller = ring.authenticate(secret)

    assert caller is not None
    assert caller.key == record.id
    assert not caller.admin
    assert caller.may_call(CHAT)
    assert not caller.may_call(FunctionId("team-a", "other"))
    assert not caller.may_call(FunctionId("team-b", "chat"))


@pytest.mark.parametrize("secret", ["", "pl-", "pl-wrong", "x" * 10_000, "pl-\udcff", "é"])
def test_anything_else_opens_nothing(ring: Keyring, secret: str) -> None:
    ring.create("ci")

    assert ring.authenticate(secret) is None


def test_a_revoked_key_opens_nothing_from_then_on(ring: Keyring) -> None:
    record, secret = ring.create("ci")

    assert ring.revoke(record.id)
    assert ring.authenticate(secret) is None
    assert not ring.revoke(record.id)
    assert ring.list()[0].revoked_at is not None


def test_keys_outlive_a_restart_and_the_secret_is_nowhere(
    ring: Keyring, database: Database, clock: Clock, tmp_path: Path
) -> None:
    _, secret = ring.create("ci")

    assert Keyring(Keys(database), clock).authenticate(secret) is not None
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert secret.encode() not in kept
    assert "hash" not in repr(ring.list()[0])


def test_the_admin_key_is_made_once_and_readable_by_its_owner_alone(ring: Keyring, tmp_path: Path) -> None:
    path = tmp_path / "state" / "admin.key"

    secret = ring.ensure_admin(path)

    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == secret + "\n"
    caller = ring.authenticate(secret)
    assert caller is not None
    assert caller.admin
    assert caller.may_call(CHAT)
    assert ring.ensure_admin(path) == secret
    assert len(ring.list()) == 1


def test_a_lost_admin_key_file_is_made_anew(ring: Keyring, tmp_path: Path) -> None:
    path = tmp_path / "admin.key"
    first = ring.ensure_admin(path)
    path.unlink()

    assert ring.ensure_admin(path) != first
