"""Ten thousand streams held during one cold start: what each costs, whether any is lost, and how fast they drain.

Each run has a fresh `pilotlight up`, one function on the simulated engine with `max: 1`, and all requests sent within
five seconds by two client processes, each on a connection of its own. A cold run finds the function at zero and holds
all of them until the replica is ready; a warm run finds the replica ready, so that all but the cap's worth wait for a
slot. Runs go in pairs, the order changing from pair to pair, with the same prompts in both.

- Memory: growth of the platform's process (USS) from just before the load to the moment when the last request was
  held, by request. It is the whole process: what the ledger and the server keep for a request counts too.
- Rate: requests that ended, by second, from the moment when a replica was ready and every request in hand, to the last
  end. Both kinds of run are measured so; sending and accepting the load are in neither.
- Lost: whatever got anything but status 200, exactly the text that the engine's toy language model has for its prompt,
  a usage event with all tokens, one `[DONE]` and the response's regular end. The ledger must have every request and
  token.
"""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

import harness
from load import Plan, Record

LIMIT_KIB, LIMIT_RATIO = 24.0, 0.8
PAIRS, QUICK_PAIRS = 3, 1
REQUESTS, QUICK_REQUESTS = 10_000, 2_000
CLIENTS = 2
CAP = 256
TOKENS = 16
PROMPT_BYTES = 200
SEED = 20261124
NAME = "hold"


@dataclass(frozen=True)
class Run:
    """One run; seconds, bytes, requests."""

    kind: str
    requests: int
    lost: int
    reasons: dict[str, int]
    starts: int
    held_seconds: float
    """From the first request sent to the last one's first byte."""
    margin_seconds: float
    """From then until the replica was ready; cold runs only."""
    before_bytes: int
    held_bytes: int
    socket_bytes: int
    """The kernel's buffers for all TCP connections of the machine, more than before."""
    drained: int
    drain_seconds: float
    whole_seconds: float
    """From the first request sent, or the replica ready, whichever came later, to the last end."""
    ledger_requests: int
    ledger_tokens: int
    cpu_seconds: tuple[float, float]
    """Of the platform's process and of the engine's, over the run."""

    @property
    def rate(self) -> float:
        return self.drained / self.drain_seconds

    @property
    def kib(self) -> float:
        return (self.held_bytes - self.before_bytes) / 1024 / self.requests

    @property
    def socket_kib(self) -> float:
        return self.socket_bytes / 1024 / self.requests

    def line(self) -> str:
        memory = f", {self.kib:.1f} KiB each, sockets {self.socket_kib:.1f} KiB each" if self.kind == "cold" else ""
        margin = f", ready {self.margin_seconds:.1f} s later" if self.kind == "cold" else ""
        return (
            f"{self.kind}: {self.requests} requests in hand after {self.held_seconds:.1f} s{margin}{memory}; "
            f"{self.drained} drained in {self.drain_seconds:.1f} s, {self.rate:.0f}/s "
            f"(all of them {self.requests / self.whole_seconds:.0f}/s), "
            f"processor {self.cpu_seconds[0]:.1f} s, the engine's {self.cpu_seconds[1]:.1f} s, "
            f"lost {self.lost}, starts {self.starts}"
        )


def main() -> None:
    options = harness.arguments(__doc__ or "")
    raise_descriptors()
    count = QUICK_REQUESTS if options.quick else REQUESTS
    facts = harness.machine()
    print("machine: " + ", ".join(f"{name} {value}" for name, value in facts.items()), flush=True)
    runs: list[Run] = []
    for pair in range(QUICK_PAIRS if options.quick else PAIRS):
        for kind in ("cold", "warm") if pair % 2 == 0 else ("warm", "cold"):
            runs.append(one_run(kind, count))
            print(runs[-1].line(), flush=True)
            for reason, times in runs[-1].reasons.items():
                print(f"  {times} x {reason}", flush=True)
    bars = judge(runs, count)
    harness.report({"machine": facts, "runs": [asdict(run) for run in runs]}, bars, options.json)


def judge(runs: Sequence[Run], count: int) -> list[harness.Bar]:
    """Medians over the runs; of the rate, the median over the pairs of cold by warm."""
    cold = [run for run in runs if run.kind == "cold"]
    warm = [run for run in runs if run.kind == "warm"]
    lost = sum(run.lost for run in runs)
    booked = all((run.ledger_requests, run.ledger_tokens) == (count, count * TOKENS) for run in runs)
    once = all(run.starts == 1 and run.margin_seconds > 0 for run in cold)
    kib = statistics.median(run.kib for run in cold)
    ratios = [one.rate / other.rate for one, other in zip(cold, warm, strict=True)]
    ratio = statistics.median(ratios)
    rates = [statistics.median(run.rate for run in side) for side in (cold, warm)]
    print(f"median rates: cold {rates[0]:.0f}/s, warm {rates[1]:.0f}/s")
    return [
        harness.Bar("hold", "requests held during one start", str(count), f"{count}, one start", once),
        harness.Bar("hold", "lost", str(lost), "0", lost == 0),
        harness.Bar("hold", "ledger has every request and token", str(booked).lower(), "true", booked),
        harness.Bar("hold", "memory each", f"{kib:.1f} KiB", f"at most {LIMIT_KIB:.0f} KiB", kib <= LIMIT_KIB),
        harness.Bar(
            "hold", "drain rate, cold by warm", f"{ratio:.2f}", f"at least {LIMIT_RATIO}", ratio >= LIMIT_RATIO
        ),
    ]


def one_run(kind: str, count: int) -> Run:
    with harness.platform_up("--max-held", str(2 * count)) as platform:
        platform.deploy(manifest(start_seconds(count) if kind == "cold" else 0))
        if kind == "warm":
            harness.first_token(platform.url, platform.key, {"model": NAME, "max_tokens": 1, "messages": [WARM_UP]})
        return loaded(kind, count, platform)


WARM_UP = {"role": "user", "content": "wake up"}


def start_seconds(count: int) -> float:
    """A cold start that is long enough for all requests to be in hand before its end."""
    return 10 + count / 200


def manifest(seconds: float) -> str:
    return f"""\
apiVersion: pilotlight.dev/v1alpha1
kind: Function
metadata: {{name: {NAME}}}
spec:
  model: s3://models/simulated
  scale: {{max: 1, keepAlive: 1h}}
  engine: {{kind: simulated, maxNumSeqs: {CAP}, simulated: {{loadSeconds: {seconds:g}}}}}
"""


def loaded(kind: str, count: int, platform: harness.Platform) -> Run:
    process = psutil.Process(platform.pid)
    before, sockets_before, cpu_before = process.memory_full_info().uss, socket_bytes(), cpu(process)
    with clients(platform, count) as crowd:
        crowd.wait_held(count)
        held, sockets = process.memory_full_info().uss, socket_bytes()
        records = crowd.records()
    ready = ready_times(platform.state)
    spent = (cpu(process) - cpu_before, engine_cpu(platform.state))
    in_hand = max(record.first_byte for record in records)
    first, last = min(record.sent for record in records), max(record.ended for record in records)
    begin = max(in_hand, *ready)
    reasons = [reason for record in records if (reason := what_is_wrong(record))]
    requests, tokens = ledger(platform, count + (kind == "warm"))
    return Run(
        kind=kind,
        requests=count,
        lost=len(reasons),
        reasons={reason: reasons.count(reason) for reason in sorted(set(reasons))},
        starts=len(ready),
        held_seconds=in_hand - first,
        margin_seconds=ready[-1] - in_hand if kind == "cold" else 0.0,
        before_bytes=before,
        held_bytes=held,
        socket_bytes=sockets - sockets_before,
        drained=sum(record.ended > begin for record in records),
        drain_seconds=last - begin,
        whole_seconds=last - max(first, *ready),
        ledger_requests=requests - (kind == "warm"),
        ledger_tokens=tokens - (kind == "warm"),
        cpu_seconds=spent,
    )


def what_is_wrong(record: Record) -> str:
    """Empty: it got all that it asked for, once."""
    got = (record.status, record.exact, record.told, record.done, record.complete)
    if got == (200, True, TOKENS, 1, True) and not record.error:
        return ""
    text = "right" if record.exact else "wrong"
    return f"status {record.status}, {text} text, [DONE] {record.done} times: {record.error or 'no error'}"


def ready_times(state: Path) -> list[float]:
    """When each replica that was ever started became ready, monotonic seconds."""
    times = []
    for file in state.glob("replicas/*/status.json"):
        phases = json.loads(file.read_text())["phases"]
        times += [phase["start"] for phase in phases if phase["name"] == "ready"]
    return sorted(moment - time.time() + time.monotonic() for moment in times)


def ledger(platform: harness.Platform, expected: int) -> tuple[int, int]:
    """Requests and answer tokens in the ledger, once all have arrived there."""
    deadline = time.monotonic() + 30
    while True:
        rows = json.loads(platform.run("usage", "--json"))
        requests, tokens = sum(row["requests"] for row in rows), sum(row["completion_tokens"] for row in rows)
        if requests >= expected or time.monotonic() > deadline:
            return requests, tokens


def engine_cpu(state: Path) -> float:
    """Of the simulated engine since its start, seconds; its own start takes none."""
    engines = [child for supervisor in harness.supervisors(state) for child in supervisor.children(recursive=True)]
    return sum(cpu(engine) for engine in engines)


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def socket_bytes() -> int:
    """What the kernel holds in buffers of TCP connections, those of all processes."""
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        words = line.split()
        if words[0] == "TCP:":
            return int(words[words.index("mem") + 1]) * resource.getpagesize()
    return 0


def raise_descriptors() -> None:
    """Every request needs one in the platform and one here; children inherit the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Crowd:
    """The client processes of one run."""

    def __init__(self, processes: Sequence[subprocess.Popen[str]]) -> None:
        self._processes = processes
        self._messages: list[list[Record]] = [[] for _ in processes]

    def wait_held(self, count: int) -> None:
        """Until every request has had its first byte, or has ended without one."""
        in_hand = [0] * len(self._processes)
        while sum(in_hand) < count:
            for number, process in enumerate(self._processes):
                in_hand[number] = self._next(number, process)

    def records(self) -> list[Record]:
        """Until every request has ended."""
        for number, process in enumerate(self._processes):
            while not self._messages[number]:
                self._next(number, process)
        return [record for records in self._messages for record in records]

    def _next(self, number: int, process: subprocess.Popen[str]) -> int:
        if self._messages[number]:
            return len(self._messages[number])
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"a client process ended with {process.wait()}")
        message = json.loads(line)
        if "records" in message:
            self._messages[number] = [Record(**record) for record in message["records"]]
            return len(self._messages[number])
        return int(message["in_hand"])


@contextlib.contextmanager
def clients(platform: harness.Platform, count: int) -> Iterator[Crowd]:
    """Start the processes, each with its share of the requests and an address of its own."""
    address = urlsplit(platform.url)
    share = count // CLIENTS
    processes = []
    try:
        for number in range(CLIENTS):
            plan = Plan(
                host=socket.gethostbyname(address.hostname or ""),
                port=address.port or 0,
                key=platform.key,
                model=NAME,
                first=number * share,
                count=share,
                tokens=TOKENS,
                prompt_bytes=PROMPT_BYTES,
                seed=SEED,
                source=f"127.0.0.{number + 2}",
            )
            command = [sys.executable, str(Path(__file__).with_name("load.py"))]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            processes.append(process)
            assert process.stdin is not None
            process.stdin.write(json.dumps(asdict(plan)) + "\n")
            process.stdin.flush()
        yield Crowd(processes)
    finally:
        for process in processes:
            harness.end(process)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


if __name__ == "__main__":
    main()
