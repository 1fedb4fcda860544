"""`pilotlight call`: one request, its cold start shown while it waits, its answer as it comes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pilotlight.platform.cli.errors import REFUSED, ApiError, CommandError
from pilotlight.platform.cli.output import Form, safe, seconds, show_value
from pilotlight.platform.cli.target import connect

if TYPE_CHECKING:
    from pilotlight.platform.cli.calling import Record
    from pilotlight.platform.cli.client import Client

MAX_PROMPT_BYTES = 8 * 2**20
FIRST_VALUES = 8


def call(
    context: typer.Context,
    function: Annotated[str, typer.Argument(help="NAME, NAMESPACE/NAME or NAME:ADAPTER.")],
    prompt: Annotated[str | None, typer.Argument(help="What to say; read from stdin when absent.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens of the answer.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0.0, max=2.0, help="0 is greedy.")] = None,
    system: Annotated[str, typer.Option(help="System message before the prompt.")] = "",
    no_progress: Annotated[bool, typer.Option("--no-progress", help="No status line while it waits.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object in place of the streamed text.")] = False,
) -> None:
    """Call a function. It is started when nothing runs; the phases are shown while you wait."""
    said = prompt if prompt is not None else read_prompt()
    with connect(context) as client:
        if is_embedder(client, function):
            embed(client, function, said, as_json=as_json)
            return
        chat(client, function, body(said, system, max_tokens, temperature), progress=not no_progress, as_json=as_json)


def read_prompt() -> str:
    """All of stdin. Raises CommandError when there is none, or too much."""
    if sys.stdin.isatty():
        print("reading the prompt from the terminal; end it with Ctrl-D", file=sys.stderr)
    said = sys.stdin.read(MAX_PROMPT_BYTES + 1)
    if len(said) > MAX_PROMPT_BYTES:
        raise CommandError(f"the prompt is longer than {MAX_PROMPT_BYTES} characters", code=REFUSED)
    if not said.strip():
        raise CommandError("there is no prompt; give one as the second argument or on stdin", code=REFUSED)
    return said


def body(prompt: str, system: str, max_tokens: int | None, temperature: float | None) -> dict[str, Any]:
    messages = [{"role": "system", "content": system}] if system else []
    wanted: dict[str, Any] = {"messages": [*messages, {"role": "user", "content": prompt}]}
    if max_tokens is not None:
        wanted["max_tokens"] = max_tokens
    if temperature is not None:
        wanted["temperature"] = temperature
    return wanted


def is_embedder(client: Client, function: str) -> bool:
    """A key that may call a function need not be able to read it: then it is taken for a chat."""
    try:
        return task_of(client.function(function.partition(":")[0])) == "embed"
    except ApiError as error:
        if error.status in (403, 405):
            return False
        raise


def task_of(function: Mapping[str, Any]) -> str:
    return str(function.get("task") or "generate")


def chat(client: Client, function: str, wanted: dict[str, Any], *, progress: bool, as_json: bool) -> None:
    from pilotlight.platform.cli.calling import Piece, Waiting
    from pilotlight.platform.cli.waiting import waiting_line

    with waiting_line(function, wanted=progress) as line, client.chat(function, wanted) as (record, events):
        for event in events:
            if isinstance(event, Waiting):
                line.show(event)
            elif isinstance(event, Piece) and not as_json:
                line.clear()
                print(safe(event.text), end="", flush=True)
    if as_json:
        show_value(record.as_json(), Form.JSON)
        return
    print()
    print(summary(record), file=sys.stderr)


def summary(record: Record) -> str:
    """`cold: start 14.2 s, queue 3 ms, first token after 14.6 s; tokens 31 prompt, 8 answer in 15.0 s`."""
    timings = (("start", record.start_seconds), ("queue", record.queue_seconds))
    waits = [f"{name} {seconds(value)}" for name, value in timings if value]
    if record.ttft_seconds is not None:
        waits.append(f"first token after {seconds(record.ttft_seconds)}")
    prompt, answer = record.usage.get("prompt_tokens"), record.usage.get("completion_tokens")
    tokens = "" if answer is None else f"; {prompt} prompt + {answer} answer tokens"
    return f"{'cold' if record.cold else 'warm'}: {', '.join(waits) or 'no token'}{tokens} in {seconds(record.seconds)}"


def embed(client: Client, function: str, text: str, *, as_json: bool) -> None:
    from pilotlight.platform.cli.waiting import waiting_line

    with waiting_line(function):
        headers, answer = client.embed(function, text)
    try:
        vector = [float(value) for value in answer["data"][0]["embedding"]]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise CommandError("the answer holds no embedding; is the function's task `embed`?") from error
    if as_json:
        show_value({"embedding": vector, "headers": dict(headers), "usage": answer.get("usage", {})}, Form.JSON)
        return
    first = ", ".join(f"{value:.4f}" for value in vector[:FIRST_VALUES])
    print(f"{len(vector)} dimensions: {first}{', ...' if len(vector) > FIRST_VALUES else ''}")
