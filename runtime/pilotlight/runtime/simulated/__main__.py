"""`python -m pilotlight.runtime.simulated`: the process."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
import time
from collections.abc import Sequence

import uvicorn

from .app import App
from .engine import Engine
from .launch import KEY_VARIABLE
from .options import OptionError, Options, read_options
from .start import StartFailedError, report, start

_BACKLOG = 8192
"""Connections that the kernel keeps for us: a burst of a load test comes in one go."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Start, serve until a signal; the answer is the exit status."""
    parsed = _parser().parse_args(arguments)
    try:
        options = read_options(dict(_option(text) for text in parsed.option))
        start(options, _say, time.sleep)
    except OptionError as error:
        _say(f"pilotlight-simulated: {error}")
        return 2
    except StartFailedError as error:
        _say(f"pilotlight-simulated: {error}")
        return error.code
    names = tuple(name for name in parsed.served_model_name.split(",") if name)
    with socket.create_server((parsed.host, parsed.port), backlog=_BACKLOG) as listener:
        uvicorn_loop = uvicorn.Config("").get_loop_factory()
        with asyncio.Runner(loop_factory=uvicorn_loop) as runner:
            runner.run(_serve(listener, names, options, os.environ.get(KEY_VARIABLE, "")))
    return 0


async def _serve(listener: socket.socket, names: tuple[str, ...], options: Options, key: str) -> None:
    engine = Engine(options, names[0], lambda: os._exit(options.simulated_fail_code))
    server = uvicorn.Server(server_config(App(engine, names, key)))
    host, port = listener.getsockname()[:2]
    _say(report("ready", 1, f"endpoint=http://{host}:{port}"))
    try:
        await server.serve(sockets=[listener])
    finally:
        engine.close()


def server_config(app: App) -> uvicorn.Config:
    """How the application is served; the keep-alive is vLLM's, seconds."""
    return uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=1,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pilotlight.runtime.simulated", description="A stand-in for vLLM.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free port, told in the log")
    parser.add_argument("--served-model-name", required=True, metavar="NAME[,NAME]")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE")
    return parser


def _option(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise OptionError(f"option {text!r} has no value; write NAME=VALUE")
    return name, value


def _say(line: str) -> None:
    # Standard error, as vLLM's own log.
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
