"""The rights that the documentation tells administrators to give are enough."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from pilotlight.activator.values import Clock, FunctionId, Usage
from pilotlight.platform.database.connection import Database, DatabaseError
from pilotlight.platform.database.records import Keys
from pilotlight.platform.database.usage import UsageFilter, UsageRows
from pilotlight.platform.keys import Keyring
from pilotlight.platform.ledger.ledger import Ledger

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"
CREATED = re.compile(r"CREATE ROLE (\w+) LOGIN PASSWORD '([^']+)'")


def run(address: str, statements: str) -> None:
    with psycopg.connect(address, autocommit=True) as connection:
        for statement in filter(None, map(str.strip, statements.split(";"))):
            connection.execute(statement.encode())


def test_operators_and_activators_can_do_with_the_documented_grants(
    tmp_path: Path, postgres: Any, clock: Clock
) -> None:
    owner_sql, activator_sql = re.findall(r"```sql\n(.*?)```", OPERATIONS.read_text(), re.DOTALL)
    passwords = {name: secret for sql in (owner_sql, activator_sql) for name, secret in CREATED.findall(sql)}
    server = postgres.url("pilotlight").rpartition("@")[2]
    address = {name: f"postgresql://{name}:{quote(secret)}@{server}" for name, secret in passwords.items()}

    run(postgres.url("postgres"), owner_sql)
    owner = Database(address["pilotlight"])
    _, secret = Keyring(Keys(owner), clock).create("ci")
    run(postgres.url("pilotlight"), activator_sql)

    database = Database(address["activators"], wait=False)
    ring = Keyring(Keys(database), clock)
    ledger = Ledger(tmp_path / "ledger", UsageRows(database))
    ledger.admitted(Usage("r1", "key-1", FunctionId("team-a", "chat"), "chat-00001", 1.0))
    ledger.close()
    with pytest.raises(DatabaseError, match="permission denied"):
        ring.create("more")

    assert ring.authenticate(secret) is not None
    assert [row.outcome for row in UsageRows(owner).rows(UsageFilter())] == ["unknown"]
    database.close()
    owner.close()
