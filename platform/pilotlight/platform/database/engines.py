"""Connecting to SQLite or PostgreSQL: what is particular to either is here."""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError

BUSY_MILLISECONDS = 5_000
"""How long a writer waits for another in SQLite; every write of ours takes milliseconds."""
SCHEMA_LOCK = 0x70696C6F74
"""Advisory lock of PostgreSQL under which the schema is changed."""
EXPECTED = "sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/NAME"
DRIVER = {
    "application_name": "pilotlight",
    "connect_timeout": 5,  # seconds
    # A host that vanished without a word is noticed in about 25 s when we wait for it, in 15 s when we send.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""What libpq is told where the address says nothing of it."""
SESSION = {
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "60s",
    # The ledger's journal is cut once its lines are here, so a commit must survive the server.
    "synchronous_commit": "on",
}
"""Settings of every session of PostgreSQL."""


def make_engine(address: str) -> Engine:
    """Connects at first use. Raises ValueError, which never quotes the address: it has the password."""
    url = _parsed(address)
    if url.get_backend_name() == "postgresql":
        return _postgresql(url)
    engine = create_engine(url, hide_parameters=True)
    event.listen(engine, "connect", _sqlite_connect)
    event.listen(engine, "begin", _sqlite_begin)
    return engine


def described(engine: Engine) -> str:
    """Where it is, without user and password."""
    url = engine.url
    host = f"{url.host or ''}:{url.port}" if url.port else url.host or ""
    return f"{url.get_backend_name()}://{host}/{url.database or ''}"


def as_snapshot(connection: Connection) -> None:
    """What is read from now on is of one moment; nothing can be written."""
    if connection.dialect.name == "postgresql":
        connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    else:
        connection.execution_options(pilotlight_read=True)


def lock_schema(connection: Connection) -> None:
    """Wait until no other process changes the schema; holds for the transaction."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": SCHEMA_LOCK})


def _parsed(address: str) -> URL:
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        raise ValueError(f"the address cannot be read: expected {EXPECTED}") from None
    if url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg")
    if url.drivername != "sqlite":
        raise ValueError(f"the address is of another kind of database: expected {EXPECTED}")
    return url


def _postgresql(url: URL) -> Engine:
    options = " ".join(f"-c {name}={value}" for name, value in SESSION.items())
    defaults: dict[str, Any] = {**DRIVER, "options": options}
    return create_engine(
        url,
        connect_args={name: value for name, value in defaults.items() if name not in url.query},
        hide_parameters=True,
        pool_pre_ping=True,
        pool_size=4,
        max_overflow=4,
        pool_timeout=10,
    )


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
