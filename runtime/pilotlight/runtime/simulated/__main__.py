"""`python -m pilotlight.runtime.simulated`: the process."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from collections.abc import Sequence

import uvloop

from .launch import KEY_VARIABLE
from .options import OptionError, Options, read_options
from .requests import Served
from .serving import BACKLOG, serve
from .start import StartFailedError, report, start


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
    _listen(parsed.host, parsed.port, Served(parsed.served_model_name, tuple(parsed.adapter)), options)
    return 0


def _listen(host: str, port: int, served: Served, options: Options) -> None:
    with socket.create_server((host, port), backlog=BACKLOG) as listener:
        endpoint = "http://{}:{}".format(*listener.getsockname()[:2])
        key = os.environ.get(KEY_VARIABLE, "")
        uvloop.run(serve(listener, served, options, key, lambda: _say(report("ready", 1, f"endpoint={endpoint}"))))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pilotlight.runtime.simulated", description="A stand-in for vLLM.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free port, told in the log")
    parser.add_argument("--served-model-name", type=_names, required=True, metavar="NAME[,NAME]")
    parser.add_argument("--adapter", action="append", default=[], metavar="NAME", help="served beside the model")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE")
    return parser


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name for name in text.split(",") if name)
    if not names:
        raise argparse.ArgumentTypeError("expected at least one name")
    return names


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
