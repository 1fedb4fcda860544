"""The demo, step by step: a platform, a model, a manifest, a cold call, a warm one, the bill, and zero again."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import psutil
from rich.console import Console

from pilotlight.platform.cli.calling import Piece, Record, Waiting
from pilotlight.platform.cli.client import Client
from pilotlight.platform.cli.deploy import lines_of
from pilotlight.platform.cli.errors import CommandError
from pilotlight.platform.cli.output import safe, seconds
from pilotlight.platform.cli.settings import Settings
from pilotlight.platform.cli.waiting import Lines, waiting_line
from pilotlight.platform.demo import pages
from pilotlight.platform.demo.child import running_platform
from pilotlight.platform.demo.cost import Footprint, Prices, bill
from pilotlight.platform.demo.processes import replica_processes, role, wait_gone
from pilotlight.platform.demo.weights import ensure_model
from pilotlight.platform.registry.refs import ModelRef

FUNCTION = "default/chat"
MODEL = "s3://models/smollm2-135m-instruct:v1"
KEEP_ALIVE_SECONDS = 10
MANIFEST = f"""\
apiVersion: pilotlight.dev/v1alpha1
kind: Function
metadata: {{name: chat}}
spec:
  model: {MODEL}
  scale: {{keepAlive: {KEEP_ALIVE_SECONDS}s}}
"""
QUESTION = "What is the capital of France?"
MAX_TOKENS = 64
WIDTH = 100
ZERO_SECONDS = KEEP_ALIVE_SECONDS + 60.0


def run(state: Path, picture: Path | None) -> None:
    """Tell the whole story. Raises CommandError where it cannot go on; ends all that it started in any case."""
    console = Console(record=picture is not None, highlight=False)
    console.width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    with interrupted_by(signal.SIGTERM), interrupted_by(signal.SIGHUP):
        _tell(Story(console, state))
    if picture is not None:
        picture.write_text(as_svg(console), encoding="utf-8")


def _tell(story: Story) -> None:
    try:
        story.tell()
    except KeyboardInterrupt:
        left = ", ".join(str(process.pid) for process in replica_processes(story.state))
        print(f"interrupted; processes of the demo that are left: {left or 'none'}", file=sys.stderr)
        raise


def as_svg(console: Console) -> str:
    """The recorded output as a picture that asks nobody for fonts: whoever looks at it has a monospaced one."""
    return re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title="pilotlight demo"), flags=re.DOTALL)


def shown_path(path: Path) -> str:
    """Relative where it is below the working folder."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


@contextmanager
def interrupted_by(number: signal.Signals) -> Iterator[None]:
    """Treat a signal like Ctrl-C, so that every `finally` runs."""

    def interrupt(_number: int, _frame: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(number, interrupt)
    try:
        yield
    finally:
        signal.signal(number, before)


@dataclass
class Story:
    """One telling; the steps share what they learn."""

    console: Console
    state: Path
    began: float = 0.0
    """Unix time of the deployment: from then on an always-on function would cost."""
    calls: list[tuple[str, Record]] = field(default_factory=list)
    processes: list[psutil.Process] = field(default_factory=list)

    def tell(self) -> None:
        self._step(1, "A platform of its own", f"state in {shown_path(self.state)}")
        with running_platform(self.state) as settings, Client(settings) as client:
            pages.say(self.console, f"up on {settings.url}; the API is described at {settings.url}/")
            self._model(settings)
            self._deploy(client)
            self._call(client, 4, "from zero", "nothing runs yet; the request is held while a replica starts")
            self._call(client, 5, "again, warm", "the replica is up")
            self.console.print()
            self.console.print(pages.latency_table(self.calls))
            self._zero(client)
            self._account(client)
        self._step(9, "The platform ends")
        self._refuse(replica_processes(self.state), "are left although the platform has ended")
        pages.say(self.console, "nothing of it is left running; `make demo` again takes the model from its registry")

    def _step(self, number: int, title: str, note: str = "") -> None:
        pages.heading(self.console, number, title, note)

    # 2: the model

    def _model(self, settings: Settings) -> None:
        self._step(2, "A model in the registry", "files by their digest; tags point at digests")
        began = time.monotonic()
        weights = ensure_model(settings, ModelRef.parse(MODEL), lambda sentence: pages.say(self.console, sentence))
        pages.say(self.console, pages.model(MODEL, weights.manifest))
        if weights.fresh:
            pages.say(self.console, f"converted and pushed in {seconds(time.monotonic() - began)}", style="dim")

    # 3: the manifest

    def _deploy(self, client: Client) -> None:
        self._step(3, "A manifest", f"{len(MANIFEST.splitlines())} lines are all of it")
        pages.manifest(self.console, MANIFEST)
        self.began = time.time()
        for line in lines_of(client.apply(MANIFEST)):
            reason = line.startswith(" ")
            pages.say(self.console, line.strip(), *(("dim", 4) if reason else ()))

    # 4 and 5: the calls

    def _call(self, client: Client, number: int, name: str, note: str) -> None:
        self._step(number, f"A call {name}", note)
        pages.say(self.console, f"> {QUESTION}", style="bold")
        record = self._stream(client)
        self.calls.append((name, record))
        self.processes = replica_processes(self.state)
        for replica in client.rows("replicas") if record.cold else ():
            self.console.print()
            self.console.print(pages.phase_table(pages.start_phases(replica)))

    def _stream(self, client: Client) -> Record:
        body = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": MAX_TOKENS, "temperature": 0}
        lines = Lines(lambda phase: pages.say(self.console, f"... {phase}", style="dim"))
        with waiting_line(FUNCTION, otherwise=lines) as line, client.chat(FUNCTION, body) as (record, events):
            for event in events:
                if isinstance(event, Waiting):
                    line.show(event)
                elif isinstance(event, Piece):
                    line.clear()
                    self._piece(event, first=len(record.pieces) == 1)
        self.console.print()
        if not record.text:
            raise CommandError("the answer was empty; the engine's log is in the state folder")
        return record

    def _piece(self, piece: Piece, *, first: bool) -> None:
        text = safe(piece.text)
        self.console.print(f"  {text}" if first else text, end="", markup=False, style="green", soft_wrap=True)

    # 6: zero

    def _zero(self, client: Client) -> None:
        self._step(6, "Back to zero", f"keepAlive is {KEEP_ALIVE_SECONDS} s")
        names = ", ".join(f"{role(process)} {process.pid}" for process in self.processes)
        pages.say(self.console, f"processes of the replica: {names or 'none'}")
        began = time.monotonic()
        left = wait_gone(self.processes, self.state, ZERO_SECONDS)
        self._refuse(left, f"are still there after {ZERO_SECONDS:.0f} s")
        pages.say(self.console, f"after {seconds(time.monotonic() - began)} no engine process is left")
        decisions = client.rows("decisions", {"function": FUNCTION})
        for decision in [each for each in decisions if each["reason"] == "idle_zero"][:1]:
            pages.say(self.console, f"why: {decision['sentence']}", style="dim")

    def _refuse(self, left: Sequence[psutil.Process], what: str) -> None:
        if left:
            names = tuple(f"{process.pid} {role(process)}" for process in left)
            raise CommandError(f"{len(left)} processes of the replica {what}", details=names)

    # 7 and 8: the ledger and the bill

    def _account(self, client: Client) -> None:
        wall = time.time() - self.began
        query: dict[str, str | int | float] = {"function": FUNCTION, "since": self.began}
        self._step(7, "The ledger", "a row for each request, to the key that caused it")
        self.console.print(pages.ledger_table(client.rows("usage/rows", query)[::-1]))
        self._step(8, "The bill", "a second is paid for only while a replica exists")
        [sums] = client.rows("usage", {**query, "by": "function"})
        revision = client.describe(FUNCTION)["revision"]
        footprint = Footprint(float(revision["cpus"]), int(revision["memory_bytes"]))
        self.console.print(pages.cost_table(bill(sums, wall), footprint, Prices()))
