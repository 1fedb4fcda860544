"""From zero to the first token in a cluster, split into its parts, beside Knative's own activator and autoscaler.

Needs a cluster with the platform and Knative Serving installed, and nothing else to do. The engine is simulated: it
loads for two seconds and then answers at once, so that what is left is Kubernetes' and the platform's. Both sides run
the same image with the same environment. Ours is a Function, called at our activator. Knative's is the Knative Service
of such a function under Knative's autoscaler, without our labels, called at Knative's activator with its two headers.
Runs go in pairs, in an order that changes; each side has several functions, so that a pod that still ends is not of the
one called. `benchmarks/timeline.py` says whose clock each moment is read from.

The bar is the median of: request to scale patch, and engine ready to the engine's first byte at the client, together.

Two more series are shown beside it. An engine that loads nothing is ready before Kubernetes tells anybody its pod's
address, which the kubelet looks for about once a second; what is waited for then is neither engine nor platform. And
one start of real vLLM, where its model is in the cluster's registry.
"""

from __future__ import annotations

import copy
import itertools
import os
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any

import harness
import timeline
from lab import FailedCallError, Lab, Recorder, lab, service_url, wait
from pilotlight.platform.install.secrets import secret
from pilotlight.platform.kubernetes.kinds import (
    DEPLOYMENT,
    FUNCTION,
    KNATIVE_SERVICE,
    POD,
    REVISION,
    SECRET,
    Object,
    condition,
    labels_of,
)
from pilotlight.platform.kubernetes.knative import names
from pilotlight.platform.kubernetes.pods import leaves
from pilotlight.runtime.podspec import STATUS_PORT, STATUS_TARGET
from timeline import Start

PAIRS, QUICK_PAIRS = 20, 5
AT_ONCE_PAIRS, QUICK_AT_ONCE_PAIRS = 5, 2
LOAD_SECONDS = 2
ROTATION = 5
"""Functions of each side: a pod takes half a minute to end, because Knative's proxy in it waits so long."""
MOST_FAILED = 5
"""Starts without a whole answer, of both sides, before a series is given up; each is told, and its pair made again."""
LIMIT_MS = 300
WINDOW = "6s"
"""Knative's shortest, so that its side is back at zero as soon as ours."""
TIMES = {"prefillBaseSeconds": 0, "prefillTokenSeconds": 0, "decodeBaseSeconds": 0, "decodeStreamSeconds": 0}
SIMULATED = {
    "model": "s3://models/simulated:v1",
    "resources": {"cpu": 0.02, "memory": "256Mi"},
    "scale": {"max": 1, "keepAlive": "2s"},
}
REAL = {
    "model": "s3://models/smollm2:v1",
    "engine": {"maxModelLen": 1024, "maxNumSeqs": 2},
    "resources": {"cpu": 0.4, "memory": "3500Mi"},
    "scale": {"max": 1, "keepAlive": "2s"},
}
BODY = {
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "max_tokens": 8,
    "temperature": 0,
    "stream": True,
}


class FailedStartError(RuntimeError):
    """A start that brought no whole answer."""

    def __init__(self, side: str, reason: str) -> None:
        super().__init__(f"{side}: {reason}")
        self.side = side


class Runs:
    """Starts one function after the other and tells where the time went."""

    def __init__(self, lab: Lab) -> None:
        self.failed: list[FailedStartError] = []
        self._lab = lab
        self._deployments = Recorder(lab.api, DEPLOYMENT, lab.namespace)
        self._pods = Recorder(lab.api, POD, lab.namespace)
        self._knative = service_url(lab.api, "knative-serving", "activator-service")

    def note(self, error: FailedStartError) -> None:
        """Keep a failure for the report. Raises it when there are too many."""
        self.failed.append(error)
        print(f"a start failed, {error}", flush=True)
        if len(self.failed) > MOST_FAILED:
            raise error

    def ours(self, name: str) -> Start:
        function = f"{self._lab.namespace}/{name}"

        def decided(since: float) -> float | None:
            return timeline.decided(self._lab.read(f"/decisions?function={function}&limit=20")["items"], since)

        url = f"{self._lab.activator}/v1/chat/completions"
        headers = {"Authorization": f"Bearer {self._lab.key}"}
        return self._start("pilotlight", name, url, headers, {**BODY, "model": function}, decided)

    def knatives(self, name: str, model: str) -> Start:
        headers = {
            "Authorization": f"Bearer {self._lab.engine_key(revision(name))}",
            "Knative-Serving-Revision": revision(name),
            "Knative-Serving-Namespace": self._lab.namespace,
        }
        url = f"{self._knative}/v1/chat/completions"
        return self._start("knative", name, url, headers, {**BODY, "model": model}, lambda _: None)

    def until_quiet(self, name: str) -> None:
        """No pod of the function, and none of any other that does not end already."""

        def quiet() -> bool:
            pods = [pod for pod in self._pods.mirror.objects.values() if names.REVISION_LABEL in labels_of(pod)]
            return all(leaves(pod) and labels_of(pod)[names.REVISION_LABEL] != revision(name) for pod in pods)

        wait(quiet, f"nothing runs, and {name} has no pod")

    def _start(
        self,
        side: str,
        name: str,
        url: str,
        headers: Mapping[str, str],
        body: Mapping[str, object],
        decided: Callable[[float], float | None],
    ) -> Start:
        self.until_quiet(name)
        load = os.getloadavg()[0]
        try:
            told = self._lab.client.do("stream", url=url, headers=headers, body=body)
        except FailedCallError as error:
            raise FailedStartError(side, str(error)) from error
        behind, since = self._lab.client.behind, told["sent"] - self._lab.client.behind
        scheduled, pod = timeline.scheduled(self._pods.seen(), revision(name), since)
        return Start(
            side=side,
            load=round(load, 2),
            sent=told["sent"],
            decided=decided(told["sent"]),
            patched=timeline.patched(self._deployments.seen(), revision(name), since) + behind,
            scheduled=scheduled + behind,
            addressed=timeline.addressed(self._pods.seen(), pod) + behind,
            phases=self._phases(pod, revision(name)),
            first=told["first"],
            token=told["token"],
        )

    def _phases(self, pod: str, of: str) -> dict[str, tuple[float, float]]:
        found = self._lab.api.get(POD, self._lab.namespace, pod)
        url, key = f"http://{found['status']['podIP']}:{STATUS_PORT}{STATUS_TARGET}", self._lab.engine_key(of)
        # Knative sends to an engine that answers its probe, even while the supervisor still warms it up.
        wait(lambda: "ready" in timeline.phases(self._lab.client.read(url, key)), f"{pod} is ready", interval=0.05)
        return timeline.phases(self._lab.client.read(url, key))


def main() -> None:
    options = harness.arguments(__doc__ or "", cluster=True)
    facts = harness.machine()
    print("machine: " + ", ".join(f"{name} {value}" for name, value in facts.items()), flush=True)
    with lab(options) as place:
        runs = Runs(place)
        pairs = simulated(place, runs, "load", LOAD_SECONDS, QUICK_PAIRS if options.quick else PAIRS)
        at_once = simulated(place, runs, "none", 0, QUICK_AT_ONCE_PAIRS if options.quick else AT_ONCE_PAIRS)
        real = None if options.quick else with_engine(place, runs)
        compare("loads 2 s", pairs)
        compare("loads nothing", at_once)
        if real is not None:
            show("pilotlight, vLLM", [real])
    failed = Counter(error.side for error in runs.failed)
    print(f"starts without a whole answer: pilotlight {failed['pilotlight']}, knative {failed['knative']}")
    own = 1000 * statistics.median(mine.own for mine, _ in pairs)
    name = "request to scale patch and engine ready to first byte"
    bar = harness.Bar("cluster_cold_start", name, f"{own:.0f} ms", f"at most {LIMIT_MS} ms", own <= LIMIT_MS)
    series = {"loads": [*chain(*pairs)], "loads nothing": [*chain(*at_once)], "vllm": [real] if real else []}
    told = {name: [{**asdict(start), "parts": start.parts()} for start in starts] for name, starts in series.items()}
    failures = [str(error) for error in runs.failed]
    harness.report({"machine": facts, "starts": told, "failed": failures}, [bar], options.json)


def simulated(place: Lab, runs: Runs, kind: str, load: int, count: int) -> list[tuple[Start, Start]]:
    """Ours and Knative's of each pair; one more pair before them is not counted: it fills the node's caches."""
    rotation = min(ROTATION, count + 1)
    ours, knatives = ([f"{side}-{kind}-{n}" for n in range(rotation)] for side in ("ours", "knative"))
    engine = {"kind": "simulated", "simulated": {**TIMES, "loadSeconds": load, "meanTokens": 8}}
    for name in ours:
        place.function(name, **SIMULATED, engine=engine)
    wait(lambda: all(place.is_ready(FUNCTION, name) for name in ours), "our functions are ready")
    for name, pattern in zip(knatives, ours, strict=True):
        put_peer(place, name, pattern)
    wait(lambda: all(place.is_ready(REVISION, revision(name)) for name in knatives), "Knative's are ready")
    pairs: list[tuple[Start, Start]] = []
    turns = itertools.count()
    while len(pairs) <= count:
        turn = next(turns)
        pair = one_pair(runs, ours[turn % rotation], knatives[turn % rotation], ours_first=turn % 2 == 0)
        if pair:
            pairs.append(pair)
            print(f"load {load} s, pair {len(pairs) - 1}: {line(pair[0])}; {line(pair[1])}", flush=True)
    return pairs[1:]


def one_pair(runs: Runs, mine: str, theirs: str, *, ours_first: bool) -> tuple[Start, Start] | None:
    """Ours and Knative's; None: one of them failed, which is on record."""
    try:
        if ours_first:
            first = runs.ours(mine)
            return first, runs.knatives(theirs, mine)
        second = runs.knatives(theirs, mine)
        return runs.ours(mine), second
    except FailedStartError as error:
        runs.note(error)
        return None


def with_engine(place: Lab, runs: Runs) -> Start | None:
    """One start of real vLLM, where its model is in the cluster's registry; the second one, from a warm page cache."""
    place.function("vllm", **REAL)
    wait(lambda: bool(condition(place.api.get(FUNCTION, place.namespace, "vllm"), "ModelVerified")), "vllm is judged")
    if condition(place.api.get(FUNCTION, place.namespace, "vllm"), "ModelVerified")["status"] == "False":
        print(f"no run with vLLM: {REAL['model']} is not in the registry")
        return None
    wait(lambda: place.is_ready(FUNCTION, "vllm"), "vllm is ready")
    try:
        runs.ours("vllm")
        return runs.ours("vllm")
    except FailedStartError as error:
        runs.note(error)
        return None


def put_peer(place: Lab, name: str, pattern: str) -> None:
    """Knative's own of a function of ours: the same pod, its autoscaler, and nothing that the platform looks at."""
    service = place.api.get(KNATIVE_SERVICE, place.namespace, pattern)
    values = place.secret(place.namespace, f"{revision(pattern)}-pilotlight")
    place.api.create(SECRET, secret(place.namespace, f"{revision(name)}-pilotlight", values))
    place.api.create(KNATIVE_SERVICE, peer(service, name))


def peer(service: Object, name: str) -> dict[str, Any]:
    template = copy.deepcopy(service["spec"]["template"])
    template["metadata"] = {
        "name": revision(name),
        "annotations": {
            names.CLASS: names.KNATIVE_CLASS,
            names.INITIAL_SCALE: "0",
            names.MIN_SCALE: "0",
            names.MAX_SCALE: "1",
            names.BURST_CAPACITY: "-1",
            "autoscaling.knative.dev/window": WINDOW,
        },
    }
    template["spec"]["containers"][0]["envFrom"] = [{"secretRef": {"name": f"{revision(name)}-pilotlight"}}]
    return {
        "apiVersion": KNATIVE_SERVICE.api_version,
        "kind": KNATIVE_SERVICE.kind,
        "metadata": {"name": name, "namespace": service["metadata"]["namespace"]},
        "spec": {"template": template},
    }


def revision(name: str) -> str:
    """The first one, ours and Knative's."""
    return f"{name}-00001"


def line(start: Start) -> str:
    return (
        f"{start.side} {start.whole:.2f} s, to scale patch {1000 * start.asked:.0f} ms, "
        f"ready to first byte {1000 * start.routed:.0f} ms, load {start.load}"
    )


def compare(title: str, pairs: Sequence[tuple[Start, Start]]) -> None:
    show(f"pilotlight, {title}", [mine for mine, _ in pairs])
    show(f"knative, {title}", [theirs for _, theirs in pairs])
    own = statistics.median(mine.own / theirs.own for mine, theirs in pairs)
    whole = statistics.median(mine.whole / theirs.whole for mine, theirs in pairs)
    print(f"pilotlight by knative, {title}: medians of the pairs' ratios: overhead {own:.2f}, whole {whole:.2f}")


def show(title: str, starts: Sequence[Start]) -> None:
    """Medians, milliseconds."""
    parts = {name: [start.parts()[name] for start in starts] for name in starts[0].parts()}
    told = ", ".join(f"{name} {1000 * statistics.median(values):.0f}" for name, values in parts.items())
    owns, wholes = [start.own for start in starts], [start.whole for start in starts]
    early = statistics.median(start.ready - start.addressed for start in starts)
    print(f"{title}: whole {1000 * statistics.median(wholes):.0f}: {told}")
    print(
        f"{title}: overhead {1000 * statistics.median(owns):.0f}, most {1000 * max(owns):.0f}; "
        f"the pod's address was told {1000 * early:.0f} before the engine was ready"
    )


if __name__ == "__main__":
    main()
