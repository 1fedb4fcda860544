"""TLS contexts from a folder of certificates, which may be replaced at any time: new connections use the new ones.

The folder holds `ca.crt`, `tls.crt` and `tls.key`, as a mounted Kubernetes Secret does. Nothing watches it: each new
connection looks at three files' stamps. Files that do not fit together yet leave the last good context in use.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from pilotlight.platform.link.certificates import CA_CERTIFICATE, CERTIFICATE, KEY, Role

log = structlog.get_logger(__name__)

_FILES = (CA_CERTIFICATE, CERTIFICATE, KEY)
Stamp = tuple[tuple[int, int, int], ...]


class TlsError(Exception):
    """Certificates that cannot be used, with the folder and what it should hold."""

    def __init__(self, folder: Path, problem: str) -> None:
        super().__init__(f"{folder}: {problem}; expected {', '.join(_FILES)} of one authority, in PEM")
        self.folder = folder
        self.problem = problem


class Newest:
    """The context of the files as they are now."""

    def __init__(self, folder: Path, build: Callable[[Path], ssl.SSLContext]) -> None:
        """Raises TlsError when there is nothing to begin with."""
        self._folder = folder
        self._build = build
        try:
            self._stamp: Stamp | None = self._stamps()
            self._context = build(_settled(folder))
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise TlsError(folder, str(error)) from error

    def __call__(self) -> ssl.SSLContext:
        try:
            stamp = self._stamps()
            if stamp != self._stamp:
                self._context, self._stamp = self._build(_settled(self._folder)), stamp
                log.info("certificates reloaded", folder=str(self._folder))
        except (OSError, ValueError) as error:
            log.warning("certificates kept: the new ones cannot be used", folder=str(self._folder), error=str(error))
        return self._context

    def _stamps(self) -> Stamp:
        found = [(self._folder / name).stat() for name in _FILES]
        return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in found)


def server_context(folder: Path) -> ssl.SSLContext:
    """For the operator: asks every client for a certificate of our authority that is meant for clients.

    Which client it is says its role, see `peer_role`. Raises TlsError.
    """
    newest = Newest(folder, _server)

    def choose(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = newest()

    front = _server(_settled(folder))
    front.sni_callback = choose  # called for every connection, also without a name
    return front


def client_context(folder: Path) -> Callable[[], ssl.SSLContext]:
    """For activators, to be called for each connection: trusts only servers of our authority, by their name.

    Only an operator's certificate is meant for servers. Raises TlsError.
    """
    return Newest(folder, _client)


def peer_role(certificate: Mapping[str, object] | None) -> Role | None:
    """Of a verified peer, as `getpeercert()` tells it; None: no role of ours."""
    names = certificate.get("subjectAltName") if certificate else None
    uris = [value for kind, value in names if kind == "URI"] if isinstance(names, tuple) else []
    return next((role for role in Role if uris == [role.uri]), None)


def store(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write certificates where no Secret is mounted, for the owner's eyes only; each file is replaced as a whole."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, content in files.items():
        fresh = folder / f".{name}.new"
        fresh.unlink(missing_ok=True)
        fresh.touch(mode=0o600)
        fresh.write_bytes(content)
        fresh.rename(folder / name)


def _settled(folder: Path) -> Path:
    """A mounted Secret is a link to a folder that is swapped as a whole: read all files of the same one."""
    data = folder / "..data"
    return data.resolve() if data.exists() else folder


def _server(folder: Path) -> ssl.SSLContext:
    context = _context(ssl.PROTOCOL_TLS_SERVER, folder)
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0  # a resumed session would outlive the certificates that it was begun with
    return context


def _client(folder: Path) -> ssl.SSLContext:
    return _context(ssl.PROTOCOL_TLS_CLIENT, folder)  # this protocol requires a certificate and checks its names


def _context(protocol: int, folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cafile=folder / CA_CERTIFICATE)
    context.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    return context
