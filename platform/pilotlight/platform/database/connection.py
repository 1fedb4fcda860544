"""Opening the database, and the two kinds of transaction."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, inspect
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from pilotlight.platform.database.engines import as_snapshot, described, lock_schema, make_engine
from pilotlight.platform.database.schema import REVISION

OPENING = "opening"
MIGRATING = "bringing the schema up to date"


class DatabaseError(Exception):
    """The database refused or could not be reached; `refused`: it was the values, trying again does not help."""

    def __init__(self, what: str, cause: str, refused: bool = False) -> None:
        super().__init__(f"database: {what}: {cause}")
        self.what = what
        self.cause = cause
        self.refused = refused


class Database:
    """One database at the current schema; may be used from several threads."""

    def __init__(self, url: str, wait: bool = True) -> None:
        """`sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST:PORT/NAME`.

        Brings the schema up to date, and raises DatabaseError when it cannot be reached; without `wait` both come
        with the first use instead, so that a process can start while its database is away.
        """
        self._engine = _made(url)
        self._current = False
        self._opening = threading.Lock()
        if wait:
            try:
                self._open()
            except DatabaseError:
                self.close()
                raise

    def __repr__(self) -> str:
        return f"Database({described(self._engine)})"

    @classmethod
    def at(cls, path: Path) -> Database:
        """The SQLite file at `path`, made when missing."""
        path.parent.mkdir(parents=True, exist_ok=True)
        return cls(f"sqlite:///{path}")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent snapshot."""
        self._open()
        with _translated("reading"), self._engine.connect() as connection:
            as_snapshot(connection)
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """All or nothing."""
        self._open()
        with _translated("writing"), self._engine.begin() as connection:
            yield connection

    def close(self) -> None:
        self._engine.dispose()

    def _open(self) -> None:
        if self._current:
            return
        with self._opening, _translated(MIGRATING):
            if _revision(self._engine) != REVISION:
                migrate(self._engine)
            self._current = True


def ping(address: str) -> None:
    """Raises DatabaseError unless the database answers; changes nothing in it."""
    engine = _made(address)
    try:
        with _translated(OPENING), engine.connect():
            pass
    finally:
        engine.dispose()


def migrate(engine: Engine, revision: str = "head") -> None:
    """Run the packaged migrations up to `revision`; several processes may ask for it at once."""
    # Here, because it makes every start slower and is needed at the first one and after an update.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", "pilotlight.platform.database:migrations")
    with engine.begin() as connection:
        lock_schema(connection)
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, revision)
        except CommandError as error:
            message = f"{error}; a newer version of Pilotlight has made this database, so run that one"
            raise DatabaseError(MIGRATING, message) from error


def _made(address: str) -> Engine:
    try:
        return make_engine(address)
    except ValueError as error:
        raise DatabaseError(OPENING, str(error)) from None


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
    statement = _insert(connection, table)
    keys = [column.name for column in table.primary_key.columns]
    changed = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    guard = GUARDS[where](table, statement.excluded) if where else None
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed, where=guard), list(rows))


def insert_new(connection: Connection, table: Table, row: dict[str, Any]) -> bool:
    """False: a row that it may not stand beside is there already."""
    statement = _insert(connection, table).values(row).on_conflict_do_nothing()
    return connection.execute(statement.returning(*table.primary_key.columns)).first() is not None


def _insert(connection: Connection, table: Table) -> Any:
    return (postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert)(table)


def _usage_guard(table: Table, new: Any) -> Any:
    """A final row stays; a running one takes a final one, or a later count.

    So does one that is `unknown`: others have given its writer up, and it speaks again.
    """
    open_ = (table.c.outcome == "running") | (table.c.outcome == "unknown")
    later = (new.outcome != "running") | (new.completion_tokens >= table.c.completion_tokens)
    return open_ & later


GUARDS = {"usage": _usage_guard}


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        refused = isinstance(error, DataError | IntegrityError)
        raise DatabaseError(what, str(error.__cause__ or error)[:500], refused) from error
