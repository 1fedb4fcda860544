"""Certificates for a TLS listener: chosen by the name that a client asks for (SNI), replaced while connections run."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    """A server's certificate as PEM, its issuers behind it, and its key without a passphrase."""

    chain: bytes
    key: bytes = field(repr=False)


class BadCertificateError(Exception):
    """A certificate that cannot be served; `host` is "" for the default one."""

    def __init__(self, host: str, reason: str) -> None:
        name = f"certificate of {host}" if host else "default certificate"
        super().__init__(f"The {name} cannot be used: {reason}. The one before it, if there was one, is kept.")
        self.host = host
        self.reason = reason


class Certificates:
    """By host: exact names first, then `*.` for one label, then the default.

    Give `ssl_context()` to the listener once; what `replace` brings counts from the next handshake on. Not for several
    threads at once. Raises `BadCertificateError` for a default that cannot be used.
    """

    def __init__(self, default: Certificate) -> None:
        self._default = _Served(default, _context("", default))
        self._hosts: dict[str, _Served] = {}

    def ssl_context(self) -> ssl.SSLContext:
        """For a server, TLS 1.2 or newer, HTTP/1.1."""
        context = _context("", self._default.certificate)
        context.sni_callback = self._choose
        return context

    def replace(self, default: Certificate, hosts: Mapping[str, Certificate]) -> tuple[BadCertificateError, ...]:
        """All certificates as they are now, by host or `*.` host; returns those that were refused.

        In place of a refused one its predecessor stays, if there is one.
        """
        refused: list[BadCertificateError] = []
        self._default = _renewed("", default, self._default, refused) or self._default
        renewed = {
            host.lower(): _renewed(host, certificate, self._hosts.get(host.lower()), refused)
            for host, certificate in hosts.items()
        }
        self._hosts = {host: served for host, served in renewed.items() if served is not None}
        return tuple(refused)

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._served(name or "").context

    def _served(self, name: str) -> _Served:
        name = name.lower().removesuffix(".")
        wildcard = f"*.{name.partition('.')[2]}"
        return self._hosts.get(name) or self._hosts.get(wildcard) or self._default


@dataclass(frozen=True)
class _Served:
    certificate: Certificate
    context: ssl.SSLContext


def _renewed(
    host: str, certificate: Certificate, before: _Served | None, refused: list[BadCertificateError]
) -> _Served | None:
    if before is not None and before.certificate == certificate:
        return before
    try:
        return _Served(certificate, _context(host, certificate))
    except BadCertificateError as error:
        refused.append(error)
        return before


def _context(host: str, certificate: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # OpenSSL as Python has it reads files only; the folder is readable by this user alone and gone in a moment.
    with tempfile.TemporaryDirectory(prefix="pilotlight-tls-") as folder:
        chain, key = Path(folder, "chain"), Path(folder, "key")
        chain.write_bytes(certificate.chain)
        key.write_bytes(certificate.key)
        try:
            context.load_cert_chain(chain, key, password=_no_passphrase)
        except (ssl.SSLError, ValueError) as error:
            raise BadCertificateError(host, _reason(certificate, error)) from error
    return context


def _no_passphrase() -> str:
    """Instead of asking a terminal for one."""
    return ""


def _reason(certificate: Certificate, error: Exception) -> str:
    """In words: OpenSSL says `PEM lib` for most of these."""
    if b"-----BEGIN CERTIFICATE-----" not in certificate.chain:
        return "it has no `-----BEGIN CERTIFICATE-----`"
    if b"PRIVATE KEY-----" not in certificate.key:
        return "its key has no `-----BEGIN PRIVATE KEY-----`"
    if b"ENCRYPTED" in certificate.key:
        return "its key has a passphrase"
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return "its key belongs to another certificate"
    return f"its PEM is malformed ({error})"
