"""A real database per test, SQLite or PostgreSQL, and a clock that moves when told to."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pilotlight.platform.database.connection import Database
from pilotlight.platform.values import Template

BOTH = ("control", "database", "ledger", "test_keys.py")
"""Where every test that takes a `database` holds for both kinds."""
POSTGRES = "/usr/lib/postgresql"
SERVER_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "60",
    "shared_buffers": "32MB",
    # The tests kill the server and never the machine.
    "fsync": "off",
}


def make_template(**changes: Any) -> Template:
    """A revision's: simulated, without a device; `changes` are its fields."""
    base = Template(
        model="s3://models/tiny:v1",
        digest="sha256:" + "0" * 64,
        store="s3://models",
        task="generate",
        kind="simulated",
        options={},
        environment={},
        slots=4,
        context=2048,
        weight_bytes=1000,
        memory_bytes=2**30,
        device_bytes=0,
        devices=0,
        accelerator="",
        cpus=1.0,
    )
    return replace(base, **changes)


class ManualClock:
    """Implements the activator's `Clock`."""

    def __init__(self, now: float = 1_790_000_000.0) -> None:
        self.time = now
        self.set_by = 0.0
        """How far somebody has set the wall clock."""

    def now(self) -> float:
        return self.time + self.set_by

    def monotonic(self) -> float:
        return self.time


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@dataclass
class PostgresServer:
    """A server of our own on loopback, that can be taken away and given back."""

    binaries: Path
    folder: Path
    user: str | None
    """Whose it is; None: ours. It refuses to be root's."""
    port: int
    password: str = field(default_factory=lambda: secrets.token_hex(8), repr=False)
    process: subprocess.Popen[bytes] | None = None

    def url(self, name: str) -> str:
        return f"postgresql://administrator:{self.password}@127.0.0.1:{self.port}/{name}"

    def initialise(self) -> None:
        secret = self.folder / "password"
        secret.write_text(self.password)
        if self.user is not None:
            for path in (self.folder, secret):
                shutil.chown(path, self.user)
        options = ["--auth=scram-sha-256", f"--pwfile={secret}", "--encoding=UTF8", "--locale=C", "--no-sync"]
        self._spawn("initdb", "-U", "administrator", *options, "-D", str(self.folder / "data")).wait(120)

    def start(self) -> None:
        """Returns when it takes connections; the processes of a killed one may be in its way for a moment."""
        settings = [f"--{name}={value}" for name, value in SERVER_OPTIONS.items()]
        deadline = time.monotonic() + 60
        while not self._answers():
            if self.process is None or self.process.poll() is not None:
                options = ["-D", str(self.folder / "data"), f"--port={self.port}", *settings]
                self.process = self._spawn("postgres", *options)
            if time.monotonic() > deadline:
                pytest.fail(f"no PostgreSQL: {(self.folder / 'log').read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """In order; whoever is connected is cut off."""
        if self.process is not None:
            self.process.send_signal(2)
            self.process.wait(60)

    def kill(self) -> None:
        """kill -9; its children end with it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def empty(self) -> str:
        """The address of a database with nothing in it."""
        return self._create("template0")

    def ready(self) -> str:
        """The address of a database with our schema and no rows."""
        with self._administering() as connection:
            made = connection.execute("SELECT 1 FROM pg_database WHERE datname = 'schema'").fetchone()
        if made is None:
            with self._administering() as connection:
                connection.execute("CREATE DATABASE schema TEMPLATE template0")
            Database(self.url("schema")).close()
        return self._create("schema")

    def drop(self, url: str) -> None:
        with self._administering() as connection:
            connection.execute(f'DROP DATABASE "{url.rpartition("/")[2]}" WITH (FORCE)'.encode())

    def _create(self, template: str) -> str:
        name = f"test_{secrets.token_hex(6)}"
        with self._administering() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy".encode())
        return self.url(name)

    def _administering(self) -> psycopg.Connection:
        return psycopg.connect(self.url("postgres"), autocommit=True, connect_timeout=5)

    def _answers(self) -> bool:
        try:
            self._administering().close()
        except psycopg.OperationalError:
            return False
        return True

    def _spawn(self, program: str, *options: str) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [self.binaries / program, *options],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                user=self.user,
                group=self.user,
                extra_groups=None if self.user is None else [],
                env={"PATH": os.defpath, "LC_ALL": "C"},
            )


def _other_user() -> str | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    pytest.skip("PostgreSQL does not run as root, and there is no user `postgres`")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Debian's PostgreSQL; a test that takes it away gives it back with `start`."""
    versions = sorted(Path(POSTGRES).glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not versions:
        pytest.skip(f"no PostgreSQL in {POSTGRES} (Debian's package postgresql)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="pilotlight-postgres-"))
    server = PostgresServer(versions[-1].parent, folder, _other_user(), port)
    try:
        server.initialise()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    part = metafunc.definition.path.relative_to(Path(__file__).parent).parts[0]
    if "database" in metafunc.fixturenames and part in BOTH:
        metafunc.parametrize("database", ["sqlite", "postgres"], indirect=True)


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    database = Database.at(tmp_path / "pilotlight.db")
    yield database
    database.close()


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """Empty. SQLite, and in the folders of `BOTH` PostgreSQL as well."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield request.getfixturevalue("sqlite")
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.ready()
    database = Database(url)
    yield database
    database.close()
    server.drop(url)


@pytest.fixture
def addresses(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Addresses of databases with nothing in them, by kind."""

    def address(kind: str) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path / 'new.db'}"
        server: PostgresServer = request.getfixturevalue("postgres")
        return server.empty()

    return address
