"""A replica's life under signals and under the server that tells its status, in embedded mode and in a pod alike."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

from pilotlight.runtime.replica import Replica


async def run(replica: Replica, serve: Callable[[Replica], Awaitable[asyncio.Server]]) -> int:
    """Serve the status from the first moment to the last; the exit code. SIGTERM drains, a second one stops."""
    loop = asyncio.get_running_loop()

    def asked() -> None:
        if replica.draining:
            replica.stop("stopped by a second signal")
        else:
            replica.drain("drained by a signal")

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked)
    server = await serve(replica)
    try:
        return await replica.live()
    finally:
        server.close()
