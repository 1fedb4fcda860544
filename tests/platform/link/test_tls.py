"""Who gets through the link's TLS, with real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from starlette.responses import PlainTextResponse

from pilotlight.platform.link.certificates import Pair, Role, authority, files, issue
from pilotlight.platform.link.tls import TlsError, client_context, peer_role, server_context, store

if TYPE_CHECKING:
    from tests.platform.link.conftest import Pki, Serving

HELLO = PlainTextResponse("hello")
BOTH_LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
REFUSED = (aiohttp.ClientError, ssl.SSLError, ConnectionError)


async def ask(url: str, context: ssl.SSLContext) -> str:
    async with aiohttp.ClientSession() as session, session.get(url, ssl=context) as response:
        return await response.text()


def leaf_folder(pki: Pki, leaf: Pair, ca: Pair | None = None) -> Path:
    folder = pki.root / f"leaf-{leaf.certificate.serial_number}"
    store(folder, files(ca or pki.ca, leaf))
    return folder


def of_other_role(pki: Pki) -> Pair:
    """A leaf of our authority for clients, as an activator's, whose name is another one's."""
    model = issue(pki.ca, Role.ACTIVATOR, (), datetime.now(UTC))
    builder = x509.CertificateBuilder(
        issuer_name=model.certificate.issuer,
        subject_name=model.certificate.subject,
        public_key=model.key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=model.certificate.not_valid_before_utc,
        not_valid_after=model.certificate.not_valid_after_utc,
    )
    for extension in model.certificate.extensions:
        value = extension.value
        if isinstance(value, x509.SubjectAlternativeName):
            value = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://pilotlight/visitor")])
        builder = builder.add_extension(value, extension.critical)
    return Pair(builder.sign(pki.ca.key, hashes.SHA256()), model.key)


@BOTH_LOOPS
def test_only_an_activator_of_our_authority_gets_in(
    pki: Pki, serving: Serving, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    now = datetime.now(UTC)
    stranger = authority(now)
    refused = [
        leaf_folder(pki, issue(pki.ca, Role.OPERATOR, ("localhost",), now)),  # its usage is a server's
        leaf_folder(pki, of_other_role(pki)),
        leaf_folder(pki, issue(stranger, Role.ACTIVATOR, (), now)),  # as good as self-signed
    ]

    async def story() -> None:
        async with serving(HELLO, pki.server()) as url:
            assert await ask(url, pki.client()()) == "hello"
            for folder in refused:
                with pytest.raises(REFUSED):
                    await ask(url, client_context(folder)())
            assert await ask(url, pki.client()()) == "hello"

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(story())


@BOTH_LOOPS
def test_a_request_that_comes_with_the_handshake_of_another_role_is_not_looked_at(
    pki: Pki, serving: Serving, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    asked: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"])
        await HELLO(scope, receive, send)

    async def story() -> None:
        async with serving(app, pki.server()) as url:
            for path, folder in [("/other", leaf_folder(pki, of_other_role(pki))), ("/activator", pki.activator)]:
                await at_once(urlsplit(url).port or 0, client_context(folder)(), path)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(story())
    assert asked == ["/activator"]


async def at_once(port: int, context: ssl.SSLContext, path: str) -> None:
    """Send the end of the handshake and a request in one piece, and wait for an answer or the connection's end."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            writer.write(outgoing.read())
            incoming.write(await reader.read(2**16))
    tls.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    writer.write(outgoing.read())
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(2**16):
            incoming.write(data)
            with contextlib.suppress(ssl.SSLWantReadError):
                if tls.read(2**16):
                    break
    writer.close()


async def test_no_certificate_plain_http_and_old_tls_are_refused(pki: Pki, serving: Serving) -> None:
    anonymous = ssl.create_default_context(cafile=pki.activator / "ca.crt")
    old = pki.client()()
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(HELLO, pki.server()) as url:
        with pytest.raises(REFUSED):
            await ask(url, anonymous)
        with pytest.raises(REFUSED):
            await ask(url, old)
        with pytest.raises(REFUSED):
            async with aiohttp.ClientSession() as session, session.get(url.replace("https", "http")):
                pass


async def test_a_client_trusts_only_an_operator_by_its_name(pki: Pki, serving: Serving) -> None:
    now = datetime.now(UTC)
    names = ("localhost", "127.0.0.1")
    impostors = [
        leaf_folder(pki, issue(pki.ca, Role.ACTIVATOR, names, now)),  # its usage is a client's
        leaf_folder(pki, issue(pki.ca, Role.OPERATOR, ("elsewhere",), now)),
        leaf_folder(pki, issue(authority(now), Role.OPERATOR, names, now)),
    ]
    for folder in impostors:
        async with serving(HELLO, server_context(folder)) as url:
            with pytest.raises(aiohttp.ClientConnectorError):
                await ask(url, pki.client()())


async def test_renewed_certificates_are_used_by_new_connections(pki: Pki, serving: Serving) -> None:
    newest = pki.client()
    before = newest()
    assert newest() is before
    async with serving(HELLO, pki.server()) as url:
        assert await ask(url, before) == "hello"
        pki.ca = authority(datetime.now(UTC))
        pki.renew()
        with pytest.raises(REFUSED):
            await ask(url, before)  # the server goes by the new authority already
        assert await ask(url, newest()) == "hello"


async def test_a_mounted_secret_is_swapped_as_a_whole(pki: Pki, serving: Serving) -> None:
    mount = pki.root / "mount"
    mount.mkdir()
    (mount / "..data").symlink_to(pki.operator)
    for name in ("ca.crt", "tls.crt", "tls.key"):
        (mount / name).symlink_to(Path("..data") / name)
    other = pki.root / "next"
    ca = authority(datetime.now(UTC))
    store(other, files(ca, issue(ca, Role.OPERATOR, ("127.0.0.1",), datetime.now(UTC))))

    async with serving(HELLO, server_context(mount)) as url:
        assert await ask(url, pki.client()()) == "hello"
        (mount / "..fresh").symlink_to(other)
        (mount / "..fresh").rename(mount / "..data")
        with pytest.raises(REFUSED):
            await ask(url, pki.client()())
        activator = leaf_folder(pki, issue(ca, Role.ACTIVATOR, (), datetime.now(UTC)), ca)
        assert await ask(url, client_context(activator)()) == "hello"


async def test_files_that_do_not_fit_together_leave_the_last_good_ones_in_use(pki: Pki, serving: Serving) -> None:
    good = (pki.operator / "tls.key").read_bytes()
    async with serving(HELLO, pki.server()) as url:
        (pki.operator / "tls.key").write_bytes(issue(pki.ca, Role.OPERATOR, (), datetime.now(UTC)).key_pem)
        assert await ask(url, pki.client()()) == "hello"
        (pki.operator / "tls.key").write_bytes(good)
        assert await ask(url, pki.client()()) == "hello"


def test_a_folder_without_certificates_says_what_it_should_hold(tmp_path: Path) -> None:
    with pytest.raises(TlsError, match=r"ca\.crt, tls\.crt, tls\.key"):
        client_context(tmp_path)


def test_a_role_is_the_only_uri_of_a_peer() -> None:
    activator = ("URI", "spiffe://pilotlight/activator")
    assert peer_role({"subjectAltName": (activator, ("DNS", "x"))}) is Role.ACTIVATOR
    assert peer_role({"subjectAltName": (activator, ("URI", "spiffe://pilotlight/operator"))}) is None
    assert peer_role({"subjectAltName": (("DNS", "spiffe://pilotlight/activator"),)}) is None
    assert peer_role({}) is None
    assert peer_role(None) is None
