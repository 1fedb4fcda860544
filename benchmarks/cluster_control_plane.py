"""A thousand functions at zero: what the platform's processes take, and how soon a change is decided upon.

Needs a cluster with the platform and Knative Serving installed, and nothing else to do. The functions are simulated.
They are applied by server-side apply, at most a hundred at a time not ready yet, for as long as the time allows:
Knative makes some fifteen objects for each, and a small cluster may not get through all of them. How many there were is
the first bar.

- Memory is the resident set of a container's processes, and processor time is theirs, both from /proc in the pod.
- Requests are counted by the API server, see `benchmarks/apicalls.py`: leases apart, because they are renewed whatever
  there is to do, and watches apart, because each is one request in five minutes.
- Change to decision: from the answer to the apply to the moment when a watch here showed a status with the change's
  generation, written by the leader with its verdict and its route.
- Starts are those of `benchmarks/cluster_cold_start.py`, with all the other functions around.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import apicalls
import harness
from cluster_cold_start import LOAD_SECONDS, SIMULATED, TIMES, Runs, show
from lab import SYSTEM, Lab, Recorder, lab, wait
from pilotlight.platform.kubernetes.kinds import FUNCTION, POD, Key, Object, condition, labels_of
from pilotlight.platform.kubernetes.operator import LEADER_LABEL
from pilotlight.platform.kubernetes.pods import leaves

FUNCTIONS, QUICK_FUNCTIONS = 1000, 100
AHEAD = 100
"""Functions that are applied and not ready."""
APPLY_SECONDS = 1500.0
TOGETHER = 4
REST_SECONDS, QUICK_REST_SECONDS = 60.0, 20.0
SETTLED_SECONDS = 5.0
CHANGES, QUICK_CHANGES = 20, 10
STARTS = 3
LIMIT_CALLS = 0.1
"""A second, of all processes together, leases and watches aside."""
ENGINE = {"kind": "simulated", "simulated": {**TIMES, "loadSeconds": LOAD_SECONDS, "meanTokens": 8}}
USAGE = """
import glob, json, os
resident = ticks = 0
for folder in glob.glob("/proc/[0-9]*"):
    if folder != f"/proc/{os.getpid()}":
        status = dict(line.split(":", 1) for line in open(folder + "/status"))
        times = open(folder + "/stat").read().rsplit(") ", 1)[1].split()
        resident += int(status["VmRSS"].split()[0]) * 1024
        ticks += int(times[11]) + int(times[12])
print(json.dumps([resident, ticks / os.sysconf("SC_CLK_TCK")]))
"""
"""Of all processes of a container but this one."""


@dataclass(frozen=True)
class Rest:
    """What goes on while nobody asks for anything."""

    functions: int
    seconds: float
    resident_bytes: Mapping[str, int]
    """By process, at the end."""
    processors: Mapping[str, float]
    """By process: processor seconds a second."""
    calls: Mapping[str, float]
    """By account and class: requests a second."""

    @property
    def busy_calls(self) -> float:
        """Neither leases nor watches."""
        return sum(rate for name, rate in self.calls.items() if name.endswith("others"))

    def lines(self) -> list[str]:
        calls = ", ".join(f"{name.removeprefix('pilotlight-')} {rate:.2f}" for name, rate in self.calls.items())
        memory = ", ".join(f"{name} {value / 2**20:.0f}" for name, value in self.resident_bytes.items())
        busy = ", ".join(f"{name} {100 * value:.1f}" for name, value in self.processors.items())
        return [
            f"at rest with {self.functions}: MiB: {memory}",
            f"at rest with {self.functions}: percent of a processor: {busy}",
            f"at rest with {self.functions}: requests a second over {self.seconds:.0f} s: {calls}",
        ]


class Changes:
    """When each generation of a function was applied, decided upon, and ready."""

    def __init__(self, place: Lab) -> None:
        self._place = place
        self._functions = Recorder(place.api, FUNCTION, place.namespace)
        self._applied: dict[tuple[str, int], float] = {}

    def apply(self, name: str, keep_alive: str) -> int:
        """The generation that it has now."""
        spec = {**SIMULATED, "engine": ENGINE, "scale": {"max": 1, "keepAlive": keep_alive}}
        generation = int(self._place.function(name, **spec)["metadata"]["generation"])
        self._applied[name, generation] = time.time()
        return generation

    def ready(self) -> int:
        return sum(_ready(found) for found in self._functions.mirror.objects.values())

    def is_decided(self, name: str, generation: int) -> bool:
        return _decided(self._functions.mirror.objects[Key(self._place.namespace, name)], generation)

    def delays(self) -> dict[tuple[str, int], float]:
        """Seconds from the answer to each apply to the decision, of those that were decided upon."""
        first: dict[tuple[str, int], float] = {}
        for at, found in self._functions.seen():
            change = found["metadata"]["name"], found["metadata"]["generation"]
            if change in self._applied and change not in first and _decided(found, change[1]):
                first[change] = max(0.0, at - self._applied[change])
        return first


def main() -> None:
    options = harness.arguments(__doc__ or "", cluster=True)
    facts = harness.machine()
    print("machine: " + ", ".join(f"{name} {value}" for name, value in facts.items()), flush=True)
    asked = QUICK_FUNCTIONS if options.quick else FUNCTIONS
    seconds = QUICK_REST_SECONDS if options.quick else REST_SECONDS
    with lab(options) as place, apicalls.counted(place.api, SYSTEM):
        rests = [rest(place, 0, seconds)]
        changes = Changes(place)
        made = fill(changes, asked)
        applied = changes.delays()
        rests.append(rest(place, made.ready, seconds))
        single = one_by_one(changes, made.ready, QUICK_CHANGES if options.quick else CHANGES)
        runs = Runs(place)
        starts = [runs.ours(_function(number)) for number in range(min(STARTS, made.ready))]
        print(f"change to decision while all are applied: {_spread([*applied.values()])}")
        print(f"change to decision with {made.ready} at rest: {_spread(single)}")
        show(f"pilotlight, with {made.ready} functions", starts)
        results = {
            "machine": facts,
            "filled": asdict(made),
            "rests": [asdict(each) for each in rests],
            "change_seconds_while_applied": sorted(applied.values()),
            "change_seconds_at_rest": single,
            "starts": [{**asdict(start), "parts": start.parts()} for start in starts],
        }
        found = bars(made, asked, rests[-1])
        harness.report(results, found, options.json)  # now, because the removal may take half an hour
        began = time.monotonic()
    removed = time.monotonic() - began
    print(f"deleted with all that was made for them in {removed:.0f} s")
    harness.report({**results, "removed_seconds": removed}, found, options.json)


def bars(made: Filled, asked: int, at_rest: Rest) -> list[harness.Bar]:
    calls = at_rest.busy_calls
    return [
        harness.Bar("cluster_control_plane", "functions", str(made.ready), str(asked), made.ready >= asked),
        harness.Bar(
            "cluster_control_plane",
            "requests at rest beside leases and watches",
            f"{calls:.2f}/s",
            f"at most {LIMIT_CALLS}/s",
            calls <= LIMIT_CALLS,
        ),
    ]


@dataclass(frozen=True)
class Filled:
    """How the functions came about."""

    applied: int
    ready: int
    seconds: float


def fill(changes: Changes, asked: int) -> Filled:
    """Apply up to so many; returns when all are ready, or the time is over and what was applied is ready."""
    began = time.monotonic()
    applied = 0
    with ThreadPoolExecutor(TOGETHER) as threads:
        while applied < asked and time.monotonic() - began < APPLY_SECONDS:
            more = min(asked - applied, AHEAD - (applied - changes.ready()))
            names = [_function(number) for number in range(applied, applied + more)]
            list(threads.map(lambda name: changes.apply(name, "2s"), names))
            applied += more
            time.sleep(0.2)
    with contextlib.suppress(TimeoutError):
        wait(lambda: changes.ready() >= applied, f"{applied} functions are ready")
    took = time.monotonic() - began
    print(f"{applied} functions applied, {changes.ready()} of them ready after {took:.0f} s", flush=True)
    return Filled(applied, changes.ready(), took)


def one_by_one(changes: Changes, functions: int, count: int) -> list[float]:
    """Seconds from change to decision, each made when the one before was decided upon."""
    made = []
    for number in range(count):
        name = _function(number * functions // count)
        made.append((name, changes.apply(name, "3s")))
        wait(partial(changes.is_decided, *made[-1]), f"{name} is decided upon", interval=0.05)
    delays = changes.delays()
    return [delays[change] for change in made]


def rest(place: Lab, functions: int, seconds: float) -> Rest:
    settle(place)
    calls, usage, began = apicalls.read(place.kubectl), usages(place), time.monotonic()
    time.sleep(seconds)
    more, later, took = apicalls.read(place.kubectl), usages(place), time.monotonic() - began
    found = Rest(
        functions=functions,
        seconds=took,
        resident_bytes={name: later[name][0] for name in later},
        processors={name: (later[name][1] - usage[name][1]) / took for name in later if name in usage},
        calls={name: (more[name] - calls[name]) / took for name in calls},
    )
    print("\n".join(found.lines()), flush=True)
    return found


def settle(place: Lab) -> None:
    """Returns when the leader has written nothing for a while: what was asked for is done."""

    def still() -> bool:
        before = apicalls.read(place.kubectl)["pilotlight-operator others"]
        time.sleep(SETTLED_SECONDS)
        return apicalls.read(place.kubectl)["pilotlight-operator others"] == before

    wait(still, "the operator is at rest", 120)


def usages(place: Lab) -> dict[str, tuple[int, float]]:
    """Resident bytes and processor seconds of each of the platform's processes."""
    found = {}
    for pod in place.api.list(POD, SYSTEM).items:
        if (name := _process(pod)) and pod["status"].get("phase") == "Running" and not leaves(pod):
            command = [*place.kubectl, "exec", "-n", SYSTEM, pod["metadata"]["name"], "--", "python3", "-c", USAGE]
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
            resident, processor = json.loads(done.stdout)
            found[name] = (resident, processor)
    return found


def _process(pod: Object) -> str:
    """What its process is called here; empty: it is none of the two."""
    labels, name = labels_of(pod), str(pod["metadata"]["name"])
    match labels.get("app.kubernetes.io/name"):
        case "pilotlight-operator":
            return "leader" if labels.get(LEADER_LABEL) == "true" else "standby"
        case "pilotlight-activator":
            return f"activator {name.rsplit('-', 1)[1]}"
    return ""


def _decided(found: Mapping[str, Any], generation: int) -> bool:
    status = found.get("status") or {}
    return bool(status.get("observedGeneration", 0) >= generation and status.get("route"))


def _ready(found: Object) -> bool:
    return bool(condition(found, "Ready").get("status") == "True")


def _function(number: int) -> str:
    return f"f{number:04d}"


def _spread(seconds: Sequence[float]) -> str:
    if not seconds:
        return "none"
    ordered = sorted(seconds)
    late_value = ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]
    median, late, most = (f"{1000 * value:.0f} ms" for value in (statistics.median(ordered), late_value, ordered[-1]))
    return f"median {median}, 99 % {late}, most {most}"


if __name__ == "__main__":
    main()
