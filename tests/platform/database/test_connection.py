"""The database: migrations, what each kind is set to, what happens when it is away or two write at once."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from pilotlight.platform import values
from pilotlight.platform.database.connection import Database, DatabaseError, migrate, ping
from pilotlight.platform.database.engines import SESSION, make_engine
from pilotlight.platform.database.schema import REVISION, metadata

KINDS = pytest.mark.parametrize("kind", ["sqlite", "postgres"])


def test_migrations_lead_to_the_schema_that_the_code_uses(database: Database) -> None:
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_the_newest_migration_is_the_one_that_opening_looks_for() -> None:
    config = Config()
    config.set_main_option("script_location", "pilotlight.platform.database:migrations")

    assert ScriptDirectory.from_config(config).get_current_head() == REVISION


def test_a_current_database_is_opened_without_the_migrations_library(tmp_path: Path) -> None:
    Database.at(tmp_path / "p.db").close()
    program = (
        "import sys; from pathlib import Path; from pilotlight.platform.database.connection import Database;"
        "Database.at(Path(sys.argv[1])).close(); print('alembic' in sys.modules)"
    )

    said = [
        subprocess.run(
            [sys.executable, "-c", program, tmp_path / name], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("p.db", "new.db")
    ]

    assert said == ["False", "True"]


@KINDS
def test_a_newer_versions_database_is_refused_and_left_alone(kind: str, addresses: Callable[[str], str]) -> None:
    address = addresses(kind)
    database = Database(address)
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()

    for _ in range(2):
        with pytest.raises(DatabaseError, match="a newer version of Pilotlight"):
            Database(address)


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.db").write_bytes(b"no database" * 1000)

    with pytest.raises(DatabaseError, match="not a database"):
        Database.at(tmp_path / "p.db")


def test_opening_again_keeps_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "state" / "pilotlight.db"
    first = Database.at(path)
    with first.write() as connection:
        connection.execute(text("INSERT INTO audit (at, key, action, target, detail) VALUES (1, 'k', 'a', 't', '{}')"))
    first.close()

    again = Database.at(path)
    with again.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM audit")).scalar_one() == 1
    again.close()


@KINDS
def test_a_database_of_the_first_schema_is_brought_up_with_what_is_in_it(
    kind: str, addresses: Callable[[str], str]
) -> None:
    address = addresses(kind)
    engine = make_engine(address)
    migrate(engine, "0001")
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO audit (at, key, action, target, detail) VALUES (1, 'k', 'a', 't', '{}')"))
    engine.dispose()

    database = Database(address)

    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM audit")).scalar_one() == 1
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == REVISION
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    database.close()


@KINDS
def test_processes_that_start_at_once_make_one_schema(kind: str, addresses: Callable[[str], str]) -> None:
    address = addresses(kind)
    program = (
        "import sys; from pilotlight.platform.database.connection import Database;"
        "address = sys.stdin.readline().strip(); print('here', flush=True); sys.stdin.readline();"
        "Database(address).close()"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(4)
    ]
    for process in started:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{address}\n".encode())
        process.stdin.flush()
        process.stdout.readline()

    said = [process.communicate(b"\n", timeout=120)[1].decode() for process in started]  # "\n" lets each go on

    assert said == [""] * 4
    database = Database(address)
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    database.close()


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("postgresql://me:s3cret@127.0.0.1:1/ledger", id="nobody there"),
        pytest.param("postgresql://me:s3cret@127.0.0.1:port/ledger", id="port"),
        pytest.param("mysql://me:s3cret@127.0.0.1/ledger", id="another kind"),
        pytest.param("me:s3cret", id="no address"),
    ],
)
def test_an_address_that_does_not_serve_is_an_error_without_its_password(address: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        Database(address)

    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_a_password_is_shown_nowhere(postgres: Any) -> None:
    address = postgres.empty()
    password = address.split(":")[2].split("@")[0]
    database = Database(address)
    assert password not in repr(database)
    database.close()

    wrong = password[::-1] + "x"
    with pytest.raises(DatabaseError, match="authentication failed") as caught:
        Database(address.replace(password, wrong))
    assert wrong not in "".join(traceback.format_exception(caught.value))


def test_a_ping_tells_who_answers_and_makes_nothing(postgres: Any) -> None:
    address = postgres.empty()
    ping(address)
    engine = make_engine(address)
    assert inspect(engine).get_table_names() == []
    engine.dispose()

    with pytest.raises(DatabaseError, match="does not exist"):
        ping(address + "-not")


def test_a_process_can_start_while_its_database_is_away(postgres: Any) -> None:
    address = postgres.empty()
    postgres.stop()
    try:
        database = Database(address, wait=False)
        with pytest.raises(DatabaseError), database.read():
            pytest.fail("there is nothing to read")
    finally:
        postgres.start()

    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM audit")).scalar_one() == 0
    database.close()


def test_a_database_that_was_killed_is_found_again(postgres: Any) -> None:
    database = Database(postgres.empty())
    postgres.kill()
    try:
        with pytest.raises(DatabaseError) as caught, database.write() as connection:
            connection.execute(text("DELETE FROM audit"))
    finally:
        postgres.start()
    assert not caught.value.refused

    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM audit")).scalar_one() == 0
    database.close()


def test_what_is_read_is_of_one_moment(database: Database) -> None:
    count = text("SELECT count(*) FROM audit")
    with database.read() as reading:
        before = reading.execute(count).scalar_one()
        with database.write() as writing:
            writing.execute(text("INSERT INTO audit (at, key, action, target, detail) VALUES (1, 'k', 'a', 't', '{}')"))
        assert reading.execute(count).scalar_one() == before == 0
    with database.read() as reading:
        assert reading.execute(count).scalar_one() == 1


@pytest.mark.parametrize(
    ("query", "index"),
    [
        pytest.param(
            "SELECT * FROM usage WHERE admitted_at >= 5 ORDER BY admitted_at DESC LIMIT 100",
            "ix_usage_admitted_at",
            id="newest rows",
        ),
        pytest.param('SELECT * FROM replica_intervals WHERE "end" >= 5', "ix_intervals_end", id="last seconds"),
    ],
)
def test_what_is_asked_by_time_alone_has_an_index(sqlite: Database, query: str, index: str) -> None:
    with sqlite.read() as connection:
        steps = [str(row) for row in connection.execute(text(f"EXPLAIN QUERY PLAN {query}"))]

    assert any(index in step for step in steps), steps
    assert not any("TEMP B-TREE" in step for step in steps)


@pytest.mark.parametrize(
    ("pragma", "value"), [("journal_mode", "wal"), ("busy_timeout", 5000), ("foreign_keys", 1), ("synchronous", 2)]
)
def test_sqlite_is_set_up(sqlite: Database, pragma: str, value: object) -> None:
    with sqlite.read() as connection:
        assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value


@pytest.mark.parametrize(("name", "value"), SESSION.items())
def test_postgresql_is_set_up(postgres: Any, name: str, value: str) -> None:
    database = Database(postgres.ready())
    with database.read() as connection:
        shown = connection.exec_driver_sql(f"SHOW {name}").scalar_one()
    database.close()

    assert shown.replace("1min", "60s") == value


def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    insert = text("INSERT INTO audit (id, at, key, action, target, detail) VALUES (1, 1, 'k', 'a', 't', '{}')")

    def twice() -> None:
        with database.write() as connection:
            connection.execute(insert)
            connection.execute(insert)

    with pytest.raises(DatabaseError, match=r"(?i)unique"):
        twice()

    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM audit")).scalar_one() == 0


def test_writers_wait_for_each_other(sqlite: Database) -> None:
    def work() -> None:
        for _ in range(20):
            with sqlite.write() as connection:
                count = connection.execute(text("SELECT count(*) FROM audit")).scalar_one()
                connection.execute(
                    text("INSERT INTO audit (at, key, action, target, detail) VALUES (:n, 'k', 'a', 't', '{}')"),
                    {"n": count},
                )

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with sqlite.read() as connection:
        assert connection.execute(text("SELECT count(DISTINCT at) FROM audit")).scalar_one() == 80


def test_only_the_database_package_imports_its_libraries() -> None:
    root = Path(str(values.__file__)).parent
    library = re.compile(r"^\s*(import|from) (sqlalchemy|alembic|sqlite3)\b", re.MULTILINE)
    found = [path.relative_to(root).as_posix() for path in root.rglob("*.py") if library.search(path.read_text())]

    assert found
    assert all(name.startswith("database/") for name in found)
