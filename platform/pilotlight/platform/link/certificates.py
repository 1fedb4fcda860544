"""The link's own certificate authority: who is an operator and who is an activator. No files, no clock of its own.

A leaf's role is in it twice. Its extended key usage says on which end of a connection it may stand, which TLS itself
enforces: an operator's is for servers only, every other one's for clients only. Its URI name says which role it is.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
LEAF_DAYS = 90
RENEW_AT = 2 / 3
"""Of a leaf's life: a month is left for whoever has to look into a renewal that fails."""
BACKDATED = timedelta(minutes=5)
"""Nodes' clocks differ: a certificate must be valid already where the clock is behind."""

CA_CERTIFICATE = "ca.crt"
CA_KEY = "ca.key"
CERTIFICATE = "tls.crt"
KEY = "tls.key"


class Role(StrEnum):
    """Who may stand on which end."""

    OPERATOR = "operator"
    ACTIVATOR = "activator"

    @property
    def uri(self) -> str:
        return f"spiffe://pilotlight/{self.value}"

    @property
    def usage(self) -> x509.ObjectIdentifier:
        return ExtendedKeyUsageOID.SERVER_AUTH if self is Role.OPERATOR else ExtendedKeyUsageOID.CLIENT_AUTH


class CertificateError(ValueError):
    """Bytes that are not the certificate and key they should be; the message says what to do."""


@dataclass(frozen=True, repr=False)
class Pair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def read(cls, certificate: bytes, key: bytes) -> Pair:
        """From PEM; raises CertificateError."""
        try:
            read = x509.load_pem_x509_certificate(certificate)
            private = serialization.load_pem_private_key(key, password=None)
        except (ValueError, TypeError) as error:
            raise CertificateError(f"no PEM certificate with its unencrypted key: {error}") from error
        if not isinstance(private, ec.EllipticCurvePrivateKey) or private.public_key() != read.public_key():
            raise CertificateError("the private key is not the certificate's; replace both together")
        return cls(read, private)

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def authority(now: datetime) -> Pair:
    """A new certificate authority, P-256, for ten years; it signs leaves only."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pilotlight link CA")])
    builder = (
        _builder(name, name, key.public_key(), now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
    )
    return Pair(builder.sign(key, hashes.SHA256()), key)


def issue(ca: Pair, role: Role, names: Collection[str], now: datetime) -> Pair:
    """A leaf for 90 days; `names` are the DNS names and addresses that a server is called by."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, role.value)])
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())
    builder = (
        _builder(subject, ca.certificate.subject, key.public_key(), now, LEAF_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([role.usage]), critical=False)
        .add_extension(signer, critical=False)
        .add_extension(x509.SubjectAlternativeName(_alternative_names(role, names)), critical=False)
    )
    return Pair(builder.sign(ca.key, hashes.SHA256()), key)


def due(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether two thirds of its life are over."""
    begun, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return now >= begun + (ends - begun) * RENEW_AT


def authority_of(data: Mapping[str, bytes], now: datetime) -> Pair:
    """The authority that a Secret holds, or a new one where it holds none.

    Raises CertificateError when what it holds is damaged: a new one would shut out every peer, so that is not done
    unasked.
    """
    if CA_CERTIFICATE not in data and CA_KEY not in data:
        return authority(now)
    try:
        return Pair.read(data.get(CA_CERTIFICATE, b""), data.get(CA_KEY, b""))
    except CertificateError as error:
        raise CertificateError(
            f"{CA_CERTIFICATE} and {CA_KEY} cannot be used ({error}); remove both for a new authority"
        ) from error


def leaf_of(data: Mapping[str, bytes], ca: Pair, role: Role, names: Collection[str], now: datetime) -> Pair:
    """The leaf that a Secret holds, or a new one where it is missing, damaged, due, or not what it should be."""
    try:
        held = Pair.read(data.get(CERTIFICATE, b""), data.get(KEY, b""))
        held.certificate.verify_directly_issued_by(ca.certificate)
    except (CertificateError, InvalidSignature, ValueError, TypeError):
        return issue(ca, role, names, now)
    fits = _names_of(held.certificate) == set(_alternative_names(role, names))
    return held if fits and not due(held.certificate, now) else issue(ca, role, names, now)


def files(ca: Pair, leaf: Pair) -> dict[str, bytes]:
    """What a process needs in its folder; the authority's key is not among it."""
    return {CA_CERTIFICATE: ca.certificate_pem, CERTIFICATE: leaf.certificate_pem, KEY: leaf.key_pem}


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - BACKDATED)
        .not_valid_after(now.astimezone(UTC) + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_names(role: Role, names: Collection[str]) -> list[x509.GeneralName]:
    return [x509.UniformResourceIdentifier(role.uri), *(_general_name(name) for name in names)]


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _names_of(certificate: x509.Certificate) -> set[x509.GeneralName]:
    try:
        return set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return set()
