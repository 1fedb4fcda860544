"""TLS by the name that a client asks for, over real handshakes; certificates change while connections run."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator
from functools import cache
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pilotlight.activator.tls import BadCertificateError, Certificate, Certificates

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.serialization import KeySerializationEncryption


@cache
def make(name: str, serial: int = 1, passphrase: bytes = b"") -> Certificate:
    """A certificate for `name` that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    built = (
        x509.CertificateBuilder(subject, subject, key.public_key(), serial, start, start + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    locked: KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        locked = serialization.BestAvailableEncryption(passphrase)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    return Certificate(built.public_bytes(serialization.Encoding.PEM), pem)


DEFAULT = make("default.example")
EXACT = make("chat.example.com")
WILD = make("*.example.com")


class Listener:
    """Echoes lines over TLS."""

    def __init__(self) -> None:
        self.certificates = Certificates(DEFAULT)
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        context = self.certificates.ssl_context()
        self._server = await asyncio.start_server(self._echo, "127.0.0.1", 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def connect(
        self, name: str | None, most: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = most
        context.set_ciphers("ALL:@SECLEVEL=0")
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname=name or "")

    async def shown(self, name: str | None) -> x509.Certificate:
        """The certificate that a client which asks for `name` gets to see."""
        _, writer = await self.connect(name)
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        await writer.wait_closed()
        return x509.load_der_x509_certificate(shown)

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
        writer.close()


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    listening = Listener()
    await listening.start()
    yield listening
    await listening.stop()


def common_name(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("chat.example.com", "chat.example.com"),
        ("CHAT.Example.com", "chat.example.com"),
        ("other.example.com", "*.example.com"),
        ("a.b.example.com", "default.example"),
        ("example.com", "default.example"),
        ("elsewhere.test", "default.example"),
        (None, "default.example"),
    ],
)
async def test_the_exact_name_then_the_wildcard_then_the_default(
    listener: Listener, asked: str | None, shown: str
) -> None:
    assert listener.certificates.replace(DEFAULT, {"Chat.example.com": EXACT, "*.example.com": WILD}) == ()
    assert common_name(await listener.shown(asked)) == shown


async def test_a_new_certificate_is_shown_from_the_next_handshake_on_and_connections_stay(listener: Listener) -> None:
    listener.certificates.replace(DEFAULT, {"chat.example.com": EXACT})
    reader, writer = await listener.connect("chat.example.com")
    assert (
        listener.certificates.replace(make("default.example", 3), {"chat.example.com": make("chat.example.com", 2)})
        == ()
    )
    assert (await listener.shown("chat.example.com")).serial_number == 2
    assert (await listener.shown("elsewhere.test")).serial_number == 3
    writer.write(b"still here\n")
    assert await reader.readline() == b"still here\n"
    writer.close()
    assert listener.certificates.replace(DEFAULT, {}) == ()
    assert common_name(await listener.shown("chat.example.com")) == "default.example"


BAD = {
    "it has no `-----BEGIN CERTIFICATE-----`": Certificate(b"hello", EXACT.key),
    "its key has no `-----BEGIN PRIVATE KEY-----`": Certificate(EXACT.chain, b""),
    "its key belongs to another certificate": Certificate(EXACT.chain, WILD.key),
    "its key has a passphrase": make("chat.example.com", 9, b"secret"),
    "its PEM is malformed": Certificate(EXACT.chain[:100] + EXACT.chain[120:], EXACT.key),
}


@pytest.mark.parametrize(("reason", "bad"), BAD.items(), ids=BAD)
async def test_a_bad_one_is_refused_with_its_reason_and_the_one_before_is_kept(
    listener: Listener, reason: str, bad: Certificate
) -> None:
    listener.certificates.replace(DEFAULT, {"chat.example.com": EXACT})
    renewed = make("*.example.com", 5)
    (refused,) = listener.certificates.replace(DEFAULT, {"chat.example.com": bad, "*.example.com": renewed})
    assert refused.host == "chat.example.com"
    assert refused.reason.startswith(reason)
    assert "certificate of chat.example.com" in str(refused)
    assert common_name(await listener.shown("chat.example.com")) == "chat.example.com"
    assert (await listener.shown("other.example.com")).serial_number == 5, "the good ones count all the same"


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_a_bad_default_is_refused_and_a_bad_first_one_leaves_the_default(
    listener: Listener, bad: Certificate
) -> None:
    refused = listener.certificates.replace(bad, {"new.example.com": bad, "x.test": EXACT})
    assert [error.host for error in refused] == ["", "new.example.com"]
    assert common_name(await listener.shown("new.example.com")) == "default.example"
    assert common_name(await listener.shown("x.test")) == "chat.example.com"
    with pytest.raises(BadCertificateError, match="default certificate"):
        Certificates(bad)


@pytest.mark.parametrize(
    ("version", "served"),
    [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_nothing_older_than_tls_1_2(listener: Listener, version: ssl.TLSVersion, *, served: bool) -> None:
    if served:
        _, writer = await listener.connect("chat.example.com", version)
        writer.close()
    else:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await listener.connect("chat.example.com", version)


def test_a_key_is_not_shown() -> None:
    assert "PRIVATE KEY" not in repr(EXACT)
