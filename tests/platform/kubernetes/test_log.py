"""The log of a pod, from a server that speaks HTTPS as the API server does."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kubernetes import client

from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.cluster import KubernetesCluster, PodSettings
from pilotlight.platform.link.certificates import CA_CERTIFICATE, CERTIFICATE, KEY, Role, authority, files, issue
from pilotlight.platform.link.tls import store

if TYPE_CHECKING:
    from tests.platform.kubernetes.conftest import Holder

POD = {
    "metadata": {
        "namespace": "team-a",
        "name": "pod-1",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"serving.knative.dev/revision": "chat-00001"},
    }
}
Until = Callable[[Callable[[], bool], str], None]


class Server:
    """Answers one request over TLS with a log of two lines; what comes after them is up to the test."""

    def __init__(self, folder: Path, status: bytes = b"200 OK") -> None:
        now = datetime.now(UTC)
        ca = authority(now)
        store(folder, files(ca, issue(ca, Role.OPERATOR, ["127.0.0.1"], now)))
        self._folder = folder
        self._status = status
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.ends, self.left = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    @property
    def api(self) -> Api:
        settings = client.Configuration(host=f"https://127.0.0.1:{self._listener.getsockname()[1]}")
        settings.ssl_ca_cert = str(self._folder / CA_CERTIFICATE)
        return Api(client.ApiClient(settings))

    def close(self) -> None:
        self.ends.set()
        self._listener.close()
        self.thread.join(20)

    def _serve(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._folder / CERTIFICATE, self._folder / KEY)
        plain, _ = self._listener.accept()
        with context.wrap_socket(plain, server_side=True) as connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 %b\r\nTransfer-Encoding: chunked\r\n\r\n8\r\none\ntwo\n\r\n" % self._status)
            connection.settimeout(20)
            if self.ends.is_set():
                connection.sendall(b"0\r\n\r\n")
            elif _has_ended(connection):
                self.left.set()


def _has_ended(connection: ssl.SSLSocket) -> bool:
    """Waits for it: with TLS's own word, or without."""
    try:
        return connection.recv(1) == b""
    except (ssl.SSLError, ConnectionError):
        return True


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.close()


@pytest.fixture
def follow(holder: Callable[..., Holder], clock: Any) -> Callable[[Server, bool], Any]:
    def follow(server: Server, follow: bool) -> Any:
        pods = holder()
        pods.put(POD)
        scaler: Any = None
        cluster = KubernetesCluster(
            server.api, pods, holder(), scaler, lambda *_: "", lambda: None, clock, PodSettings()
        )
        return cluster.log("pod-1", 10, follow)

    return follow


def waiting() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("log")]


async def test_a_log_is_read_to_its_end(server: Server, follow: Any) -> None:
    server.ends.set()
    assert [line async for line in follow(server, False)] == [b"one\n", b"two\n"]


async def test_a_reader_that_leaves_ends_thread_and_connection_while_the_log_says_nothing(
    server: Server, follow: Any, until: Until
) -> None:
    read: list[bytes] = []
    second = asyncio.Event()

    async def reader() -> None:
        async for line in follow(server, True):
            read.append(line)
            if len(read) == 2:
                second.set()

    reading = asyncio.create_task(reader())
    await second.wait()
    assert waiting()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)

    assert read == [b"one\n", b"two\n"]
    await asyncio.to_thread(server.left.wait, 20)
    assert server.left.is_set()
    await asyncio.to_thread(until, lambda: not waiting(), "the thread's end")


async def test_what_the_api_server_says_instead_of_a_log_is_told(follow: Any, tmp_path: Path) -> None:
    server = Server(tmp_path, b"400 Bad Request")
    server.ends.set()
    assert [line async for line in follow(server, False)] == [b"the log cannot be read: one\ntwo\n\n"]
    server.close()
