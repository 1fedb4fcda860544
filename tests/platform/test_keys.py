"""Keys: what a secret opens, and that only its hash is kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from pilotlight.activator.values import Clock, FunctionId
from pilotlight.platform.database.connection import Database
from pilotlight.platform.database.records import Keys, Records
from pilotlight.platform.keys import Keyring, SecretError

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

    assert ring.in_force(record.id)
    assert ring.revoke(record.id)
    assert ring.authenticate(secret) is None
    assert not ring.in_force(record.id)
    assert not ring.revoke(record.id)
    assert ring.list()[0].revoked_at is not None


def test_keys_outlive_a_restart_and_the_secret_is_nowhere(sqlite: Database, clock: Clock, tmp_path: Path) -> None:
    ring = Keyring(Keys(sqlite), clock)
    _, secret = ring.create("ci")

    assert Keyring(Keys(sqlite), clock).authenticate(secret) is not None
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


def test_what_one_process_makes_and_revokes_reaches_the_others_with_a_refresh(
    ring: Keyring, database: Database, clock: Clock
) -> None:
    other = Keyring(Keys(database), clock)
    record, secret = ring.create("ci", namespaces=["team-a"])
    assert other.authenticate(secret) is None

    assert other.refresh()
    assert other.authenticate(secret) == ring.authenticate(secret)

    ring.revoke(record.id)
    assert other.refresh()
    assert other.authenticate(secret) is None


def test_the_keys_read_last_stay_in_force_while_the_database_is_away(postgres: Any, clock: Clock) -> None:
    database = Database(postgres.ready())
    ring = Keyring(Keys(database), clock)
    record, secret = ring.create("ci")
    postgres.stop()
    try:
        with capture_logs() as said:
            assert [ring.refresh(), ring.refresh()] == [False, False]
        late = Keyring(Keys(database), clock)
        known_without = late.known
    finally:
        postgres.start()

    assert [entry["log_level"] for entry in said] == ["error"]
    assert not known_without
    assert ring.known
    assert ring.authenticate(secret) is not None
    assert late.refresh()
    assert late.known
    assert late.authenticate(secret) is not None
    late.revoke(record.id)
    assert ring.refresh()
    assert ring.authenticate(secret) is None
    database.close()


def test_a_given_secret_is_the_admin_of_every_process_and_has_one_key(database: Database, clock: Clock) -> None:
    secret = "given-by-the-cluster-4711"
    rings = [Keyring(Keys(database), clock) for _ in range(4)]

    with ThreadPoolExecutor(len(rings)) as threads:
        list(threads.map(lambda ring: ring.put_admin(secret), rings))

    callers = [ring.authenticate(secret) for ring in rings]
    assert all(caller is not None and caller.admin for caller in callers)
    assert len(rings[0].list()) == 1
    assert [entry.action for entry in Records(database).audit()] == ["create key"]


@pytest.mark.parametrize("secret", ["", "short", "x" * 23, "x" * 201])
def test_a_secret_that_is_no_secret_is_refused_without_quoting_it(ring: Keyring, secret: str) -> None:
    with pytest.raises(SecretError) as caught:
        ring.put_admin(secret)

    assert not secret or secret not in str(caught.value)
    assert ring.list() == ()


def test_a_given_secret_that_was_revoked_stays_so(ring: Keyring) -> None:
    secret = "given-by-the-cluster-4711"
    ring.put_admin(secret)
    ring.revoke(ring.list()[0].id)

    with pytest.raises(SecretError, match="give another secret"):
        ring.put_admin(secret)
    assert ring.authenticate(secret) is None
