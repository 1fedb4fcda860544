"""The link's listener: uvicorn with our TLS context, for activators only."""

from __future__ import annotations

import asyncio
import ssl

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pilotlight.platform.dispatch import App
from pilotlight.platform.link.certificates import Role
from pilotlight.platform.link.tls import peer_role
from pilotlight.platform.listening import Server

KEEP_ALIVE_SECONDS = 75
"""Longer than any of our clients keeps a connection, so that they close first."""
GRACE_SECONDS = 5
"""How long requests may take to finish when the server ends."""

log = structlog.get_logger(__name__)


class _ActivatorsOnly(HttpToolsProtocol):
    """TLS has verified that the peer's certificate is of our authority and for clients; this looks at its role."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        certificate = transport.get_extra_info("peercert")
        if peer_role(certificate) is not Role.ACTIVATOR:
            log.warning("link refused: not an activator", peer=self.client, names=_names(certificate))
            transport.abort()  # nothing that came with the handshake is read


def link_server(app: App, context: ssl.SSLContext) -> Server:
    """Serve with `await server.serve(sockets=[listener])`; `context` is `tls.server_context`'s."""
    config = uvicorn.Config(
        app,
        http=_ActivatorsOnly,
        ssl_context_factory=lambda _config, _default: context,
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        ws="none",
    )
    return Server(config)


def _names(certificate: object) -> object:
    return certificate.get("subjectAltName") if isinstance(certificate, dict) else None
