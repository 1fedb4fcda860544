"""HTTP servers: many connections at once, signals left to whoever runs them."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from pilotlight.platform.dispatch import App

BACKLOG = 4096
"""Connections that the kernel keeps for us; of a burst beyond it, clients try again only seconds later."""
DOORS = 16
"""Connections accepted in one turn of the event loop; libuv accepts one by listening descriptor, and turns are long
while hundreds of streams run."""


class Server(uvicorn.Server):
    """Signals are the host's: it drains before the server closes its connections."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server(app: App, tls: ssl.SSLContext | None = None) -> Server:
    """Serve with `await server.serve(sockets=doors(listener))`; with `tls`, HTTPS."""
    config = uvicorn.Config(
        app,
        ssl_context_factory=None if tls is None else lambda _config, _default: tls,
        http="httptools",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=75,  # longer than the 60 s of usual load balancers, so that they close first
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=None,
        ws="none",
    )
    return Server(config)


def listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.set_inheritable(False)
    return listener


def doors(listener: socket.socket) -> list[socket.socket]:
    """The same listening socket under several descriptors."""
    return [listener, *(listener.dup() for _ in range(DOORS - 1))]
