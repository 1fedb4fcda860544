"""The database: migrations, SQLite's settings, and what happens when two write at once."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from pilotlight.platform import values
from pilotlight.platform.database.connection import Database, DatabaseError, migrate
from pilotlight.platform.database.schema import REVISION, metadata


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


def test_a_newer_versions_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    database = Database.at(tmp_path / "p.db")
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()

    for _ in range(2):
        with pytest.raises(DatabaseError, match="a newer version of Pilotlight"):
            Database.at(tmp_path / "p.db")


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


def test_a_database_of_the_first_schema_is_brought_up_with_what_is_in_it(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'p.db'}")
    migrate(engine, "0001")
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO audit (at, key, action, target, detail) VALUES (1, 'k', 'a', 't', '{}')"))
    engine.dispose()

    database = Database.at(tmp_path / "p.db")

    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM audit")).scalar_one() == 1
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == REVISION
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    database.close()


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
def test_what_is_asked_by_time_alone_has_an_index(database: Database, query: str, index: str) -> None:
    with database.read() as connection:
        steps = [str(row) for row in connection.execute(text(f"EXPLAIN QUERY PLAN {query}"))]

    assert any(index in step for step in steps), steps
    assert not any("TEMP B-TREE" in step for step in steps)


@pytest.mark.parametrize(
    ("pragma", "value"), [("journal_mode", "wal"), ("busy_timeout", 5000), ("foreign_keys", 1), ("synchronous", 2)]
)
def test_sqlite_is_set_up(database: Database, pragma: str, value: object) -> None:
    with database.read() as connection:
        assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value


def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    insert = text("INSERT INTO audit (id, at, key, action, target, detail) VALUES (1, 1, 'k', 'a', 't', '{}')")

    def twice() -> None:
        with database.write() as connection:
            connection.execute(insert)
            connection.execute(insert)

    with pytest.raises(DatabaseError, match="UNIQUE"):
        twice()

    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM audit")).scalar_one() == 0


def test_writers_wait_for_each_other(database: Database) -> None:
    def work() -> None:
        for _ in range(20):
            with database.write() as connection:
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

    with database.read() as connection:
        assert connection.execute(text("SELECT count(DISTINCT at) FROM audit")).scalar_one() == 80


def test_only_the_database_package_imports_its_libraries() -> None:
    root = Path(str(values.__file__)).parent
    library = re.compile(r"^\s*(import|from) (sqlalchemy|alembic|sqlite3)\b", re.MULTILINE)
    found = [path.relative_to(root).as_posix() for path in root.rglob("*.py") if library.search(path.read_text())]

    assert found
    assert all(name.startswith("database/") for name in found)
