"""API keys: made, listed, revoked, and looked up without I/O.

A secret is `pl-` and 32 random bytes; only its sha256 is kept. A plain hash is enough because the secret is random
over its whole length: there is nothing to guess by dictionary.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import threading
from collections.abc import Iterable
from pathlib import Path

import structlog

from pilotlight.activator.values import Caller, Clock, FunctionId
from pilotlight.platform.database.connection import DatabaseError
from pilotlight.platform.database.records import Keys
from pilotlight.platform.values import KeyRecord

SECRET_LIMIT = 200
"""Longest secret that is looked at, characters."""
SECRET_LEAST = 24
"""Shortest one that may be given, characters: its hash must not be worth guessing at."""

log = structlog.get_logger(__name__)


class SecretError(ValueError):
    """A secret that cannot be an admin key's; never quotes it."""


def make_secret() -> str:
    """A new key's secret."""
    return "pl-" + secrets.token_urlsafe(32)


class Keyring:
    """The keys in force; implements the activator's `Authenticator`."""

    def __init__(self, keys: Keys, clock: Clock) -> None:
        """Without its database it knows no key until a `refresh` succeeds, see `known`."""
        self._keys = keys
        self._clock = clock
        self._callers: dict[str, tuple[str, Caller]] = {}
        self._version: tuple[int, int] | None = None
        self._away = False
        # A list read before another thread's change must not replace the one read after it.
        self._lock = threading.Lock()
        self.refresh()

    @property
    def known(self) -> bool:
        """Whether the keys were ever read: before, nobody can be told that a key is wrong."""
        return self._version is not None

    def refresh(self) -> bool:
        """Take in what other processes made and revoked; blocks, to be called every few seconds.

        False: the database is away, and the keys read last stay in force.
        """
        try:
            with self._lock:
                if self._keys.version() != self._version:
                    self._load()
        except DatabaseError as error:
            if not self._away:
                log.error("keys cannot be read; those known stay in force", error=str(error))
            self._away = True
            return False
        self._away = False
        return True

    def authenticate(self, secret: str) -> Caller | None:
        """The caller that a secret stands for; None: unknown or revoked."""
        if len(secret) > SECRET_LIMIT:
            return None
        digest = _hash(secret)
        # A caller cannot steer a hash, so the lookup's time tells nothing about the stored ones.
        known, caller = self._callers.get(digest, ("", None))
        return caller if hmac.compare_digest(known, digest) else None

    def in_force(self, key: str) -> bool:
        """Whether the id is that of a key that was not revoked."""
        return any(caller.key == key for _, caller in self._callers.values())

    def create(
        self,
        name: str,
        namespaces: Iterable[str] | None = None,
        functions: Iterable[FunctionId] | None = None,
        admin: bool = False,
        by: str = "",
    ) -> tuple[KeyRecord, str]:
        """A new key and its secret, which is shown this once; `by` is the key that asked for it."""
        secret = make_secret()
        record = KeyRecord(
            id="key-" + secrets.token_hex(6),
            name=name,
            hash=_hash(secret),
            created_at=self._clock.now(),
            namespaces=None if namespaces is None else tuple(sorted(set(namespaces))),
            functions=None if functions is None else tuple(sorted(set(functions))),
            admin=admin,
        )
        with self._lock:
            self._keys.add(record, by)
            self._load()
        return record, secret

    def list(self) -> tuple[KeyRecord, ...]:
        return self._keys.all()

    def revoke(self, key: str, by: str = "") -> bool:
        """False: there is none such in force."""
        with self._lock:
            done = self._keys.revoke(key, self._clock.now(), by)
            self._load()
            return done

    def ensure_admin(self, path: Path) -> str:
        """The secret in `path` (mode 0600), made with an admin key when the file or its key is missing."""
        if path.is_file():
            secret = path.read_text().strip()
            caller = self.authenticate(secret)
            if caller is not None and caller.admin:
                return secret
        _, secret = self.create("admin", admin=True)
        _write_private(path, secret + "\n")
        return secret

    def put_admin(self, secret: str) -> None:
        """Let a given secret in as an admin key; several processes may ask for the same one at once.

        Raises SecretError when it is too short or long, or when its key was revoked, and DatabaseError.
        """
        if not SECRET_LEAST <= len(secret) <= SECRET_LIMIT:
            raise SecretError(f"the admin key has {len(secret)} characters: expected {SECRET_LEAST} to {SECRET_LIMIT}")
        digest = _hash(secret)
        record = KeyRecord(f"key-{digest[:12]}", "admin", digest, self._clock.now(), admin=True)
        with self._lock:
            self._keys.put(record)
            self._load()
        caller = self.authenticate(secret)
        if caller is None or not caller.admin:
            raise SecretError(f"the admin key given ({record.id}) was revoked or is no admin's: give another secret")

    def _load(self) -> None:
        # The version first: what comes between the two is read again.
        version = self._keys.version()
        records = self._keys.all()
        self._version = version
        self._callers = {record.hash: (record.hash, _caller(record)) for record in records if not record.revoked_at}


def _caller(record: KeyRecord) -> Caller:
    return Caller(
        key=record.id,
        namespaces=None if record.namespaces is None else frozenset(record.namespaces),
        functions=None if record.functions is None else frozenset(record.functions),
        admin=record.admin,
    )


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _write_private(path: Path, text: str) -> None:
    """Never readable by others, not even while it is written; complete or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    partial.replace(path)
