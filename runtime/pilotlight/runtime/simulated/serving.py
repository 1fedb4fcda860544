"""Serving one engine on a socket that listens already."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable

import uvicorn

from .app import App
from .engine import Engine
from .options import Options
from .requests import Served

BACKLOG = 8192
"""Connections that the kernel keeps for us: a burst of a load test comes in one go."""
_KEEP_ALIVE_SECONDS = 5  # vLLM's default (VLLM_HTTP_TIMEOUT_KEEP_ALIVE)
_GRACE_SECONDS = 1  # streams are drained by the supervisor, not here


def server(engine: Engine, served: Served, key: str = "") -> uvicorn.Server:
    """The HTTP server of an engine; call its `serve(sockets=[...])`."""
    config = uvicorn.Config(
        App(engine, served, key),
        http="httptools",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    return uvicorn.Server(config)


async def serve(listener: socket.socket, served: Served, options: Options, key: str, ready: Callable[[], None]) -> None:
    """Serve until a signal; a simulated crash ends the process without a farewell."""
    engine = Engine(options, served.names[0], lambda: os._exit(options.simulated_fail_code))
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, engine.throttle)
    ready()
    try:
        await server(engine, served, key).serve(sockets=[listener])
    finally:
        engine.close()
