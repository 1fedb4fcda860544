"""Opening the database, and the two kinds of transaction.

SQLite today; whatever is particular to it is in this file, so that PostgreSQL can stand beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event, inspect
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from pilotlight.platform.database.schema import REVISION

BUSY_MILLISECONDS = 5_000
"""How long a writer waits for another; every write of ours takes milliseconds."""


class DatabaseError(Exception):
    """The database refused or could not be reached."""

    def __init__(self, what: str, cause: str) -> None:
        super().__init__(f"database: {what}: {cause}")
        self.what = what
        self.cause = cause


class Database:
    """One database, brought to the current schema when it is opened; may be used from several threads."""

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        try:
            with _translated("bringing the schema up to date"):
                if _revision(self._engine) != REVISION:
                    migrate(self._engine)
        except DatabaseError:
            self.close()
            raise

    @classmethod
    def at(cls, path: Path) -> Database:
        """The SQLite file at `path`, made when missing."""
        path.parent.mkdir(parents=True, exist_ok=True)
        return cls(f"sqlite:///{path}")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent snapshot."""
        with _translated("reading"), self._engine.connect() as connection:
            connection.execution_options(pilotlight_read=True)
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """All or nothing."""
        with _translated("writing"), self._engine.begin() as connection:
            yield connection

    def close(self) -> None:
        self._engine.dispose()


def migrate(engine: Engine, revision: str = "head") -> None:
    """Run the packaged migrations up to `revision`."""
    # Here, because it makes every start slower and is needed at the first one and after an update.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", "pilotlight.platform.database:migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, revision)
        except CommandError as error:
            message = f"{error}; a newer version of Pilotlight has made this database, so run that one"
            raise DatabaseError("bringing the schema up to date", message) from error


def _revision(engine: Engine) -> str:
    """Of the schema that is there; empty: none is."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return ""
        return str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none() or "")


def upsert(connection: Connection, table: Table, rows: Sequence[dict[str, Any]], where: str = "") -> None:
    """Insert, or update by primary key; `where` names a guard of `GUARDS` that an update must pass."""
    if not rows:
        return
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table)
    keys = [column.name for column in table.primary_key.columns]
    changed = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    guard = GUARDS[where](table, statement.excluded) if where else None
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed, where=guard), list(rows))


def _usage_guard(table: Table, new: Any) -> Any:
    """A final row stays; a running one takes a final one, or a later count."""
    later = (new.outcome != "running") | (new.completion_tokens >= table.c.completion_tokens)
    return (table.c.outcome == "running") & later


GUARDS = {"usage": _usage_guard}


def _engine(url: str) -> Engine:
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _sqlite_connect)
        event.listen(engine, "begin", _sqlite_begin)
    return engine


def _sqlite_connect(connection: Any, _record: object) -> None:
    # The driver's own transaction handling would begin too late for an IMMEDIATE one.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")
    cursor.execute("PRAGMA foreign_keys=ON")
    # The ledger's journal is cut once its lines are here, so a commit must survive a power cut.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _sqlite_begin(connection: Connection) -> None:
    # A deferred transaction that turns into a writer fails at once when another writes; an immediate one waits.
    reading = connection.get_execution_options().get("pilotlight_read", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise DatabaseError(what, str(error.__cause__ or error)[:500]) from error
