"""A cluster with the platform installed, as its benchmarks see it: a namespace, a client in a pod, watched objects."""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotlight.platform.api.operations import PREFIX
from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.errors import ConflictError, NotFoundError
from pilotlight.platform.kubernetes.kinds import (
    DEPLOYMENT,
    FUNCTION,
    NAMESPACE,
    POD,
    SECRET,
    SERVICE,
    Key,
    Kind,
    Object,
    condition,
)
from pilotlight.platform.kubernetes.mirror import Mirror
from pilotlight.runtime.podspec import KEY_VARIABLE

SYSTEM = "pilotlight-system"
CLIENT = Path(__file__).with_name("podclient.py")
CLOCK_SAMPLES = 20
SECONDS = 300.0
READ_SECONDS = 30.0


class Recorder:
    """Every state of the objects of one kind in a namespace, with the time at which it was seen here."""

    def __init__(self, api: Api, kind: Kind, namespace: str) -> None:
        self._lock = threading.Lock()
        self._seen: list[tuple[float, Object]] = []
        self.mirror = Mirror(api, kind, self._take, namespace=namespace)
        self.mirror.start()
        if not self.mirror.wait(SECONDS):
            raise TimeoutError(f"{kind.plural} could not be listed")

    def seen(self) -> list[tuple[float, Object]]:
        """Unix time by this machine's clock; oldest first. Deletions are not among them."""
        with self._lock:
            return list(self._seen)

    def _take(self, key: Key) -> None:
        now, found = time.time(), self.mirror.get(*key)
        if found is not None:
            with self._lock:
                self._seen.append((now, found))


class FailedCallError(RuntimeError):
    """A request that the client could not make or got no whole answer to."""


@dataclass
class Client:
    """A process in a pod that does what `podclient` says; one request at a time."""

    process: subprocess.Popen[str]
    behind: float = 0.0
    """What to add to this machine's clock to get the client's, seconds."""

    def do(self, what: str, **told: Any) -> dict[str, Any]:
        """Raises FailedCallError with the reason when it did not work."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": what, **told}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the client ended with {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise FailedCallError(f"{what} {told.get('url', '')}: {answer['error']}")
        return answer

    def read(self, url: str, key: str) -> Any:
        """The JSON at an address."""
        answer = self.do("get", url=url, headers={"Authorization": f"Bearer {key}"})
        if answer["status"] != 200:
            raise RuntimeError(f"{url} answered {answer['status']}: {answer['text'][:500]}")
        return json.loads(answer["text"])

    def set_clock(self) -> None:
        """By the exchange that took the least time, as NTP does."""
        samples = []
        for _ in range(CLOCK_SAMPLES):
            before = time.time()
            now = self.do("clock")["now"]
            after = time.time()
            samples.append((after - before, now - (before + after) / 2))
        self.behind = min(samples)[1]


@dataclass(frozen=True)
class Lab:
    """What a benchmark works with. Everything that it makes is in its namespace."""

    api: Api
    kubectl: tuple[str, ...]
    namespace: str
    client: Client
    image: str
    """Of the control plane."""
    activator: str
    """Address of our activator's Service."""
    key: str
    """The admin's."""

    def function(self, name: str, **spec: Any) -> Object:
        body = {"metadata": {"namespace": self.namespace, "name": name}, "spec": spec}
        return self.api.apply(FUNCTION, body)

    def secret(self, namespace: str, name: str) -> Mapping[str, str]:
        return secret(self.api, namespace, name)

    def engine_key(self, revision: str) -> str:
        return self.secret(self.namespace, f"{revision}-pilotlight")[KEY_VARIABLE]

    def read(self, path: str) -> Any:
        """Of the platform's API; again for a while, because who leads may change."""
        deadline = time.monotonic() + READ_SECONDS
        while True:
            try:
                return self.client.read(f"{self.activator}{PREFIX}{path}", self.key)
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(1.0)

    def is_ready(self, kind: Kind, name: str) -> bool:
        return condition(self.api.get(kind, self.namespace, name), "Ready").get("status") == "True"


def wait(met: Callable[[], bool], what: str, seconds: float = SECONDS, interval: float = 0.2) -> None:
    deadline = time.monotonic() + seconds
    while not _true(met):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(interval)


def secret(api: Api, namespace: str, name: str) -> dict[str, str]:
    data = api.get(SECRET, namespace, name)["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def service_url(api: Api, namespace: str, name: str) -> str:
    """By its address: the time that names take to be looked up is nobody's here."""
    return f"http://{api.get(SERVICE, namespace, name)['spec']['clusterIP']}"


@contextlib.contextmanager
def lab(options: argparse.Namespace) -> Iterator[Lab]:
    """A namespace and a client of the benchmark's own, both gone afterwards."""
    if options.kubeconfig is not None:
        os.environ["KUBECONFIG"] = str(options.kubeconfig)
    api = Api.connect(options.context)
    kubectl = ("kubectl", *(("--context", options.context) if options.context else ()))
    name = f"bench-{uuid.uuid4().hex[:6]}"
    image = _control_image(api)
    api.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    try:
        api.create(POD, _client_pod(name, image))
        wait(lambda: api.get(POD, name, "client")["status"].get("phase") == "Running", "the client pod runs")
        with _client(kubectl, name) as client:
            yield Lab(
                api=api,
                kubectl=kubectl,
                namespace=name,
                client=client,
                image=image,
                activator=service_url(api, SYSTEM, "pilotlight-activator"),
                key=secret(api, SYSTEM, "pilotlight-admin")["key"],
            )
    finally:
        clean(api, name)


def clean(api: Api, namespace: str, seconds: float = 2400) -> None:
    """Functions first, because what they leave is the platform's to remove.

    Kubernetes collects some hundred objects a minute, and there are ten of a function.
    """
    for found in api.list(FUNCTION, namespace).items:
        api.delete(FUNCTION, namespace, found["metadata"]["name"])
    wait(lambda: not api.list(FUNCTION, namespace).items, f"the functions of {namespace} are gone", seconds)
    api.delete(NAMESPACE, "", namespace)


@contextlib.contextmanager
def _client(kubectl: tuple[str, ...], namespace: str) -> Iterator[Client]:
    command = [*kubectl, "exec", "-i", "-n", namespace, "client", "--", "python3", "-u", "-c", CLIENT.read_text()]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    client = Client(process)
    try:
        client.set_clock()
        yield client
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _client_pod(namespace: str, image: str) -> Object:
    container = {
        "name": "client",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", "import time; time.sleep(1e6)"],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": "client"},
        "spec": {
            "containers": [container],
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
        },
    }


def _control_image(api: Api) -> str:
    try:
        found = api.get(DEPLOYMENT, SYSTEM, "pilotlight-operator")
    except NotFoundError as error:
        raise LookupError(f"no operator in {SYSTEM}: run `pilotlight install` first") from error
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"])


def _true(met: Callable[[], bool]) -> bool:
    with contextlib.suppress(NotFoundError, ConflictError):
        return met()
    return False
