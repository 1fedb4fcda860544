"""A real Kubernetes with Knative Serving, by PILOTLIGHT_TEST_KUBECONFIG, and the platform installed into it.

The images are expected in the cluster under the names of the overlay; `docs/operations.md` says how they are built.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.cluster.rights import RightsUsed

from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.errors import KubernetesError, NotFoundError
from pilotlight.platform.kubernetes.kinds import (
    FUNCTION,
    FUNCTION_LABEL,
    NAMESPACE,
    POD,
    Kind,
    Object,
    condition,
    labels_of,
)

VARIABLE = "PILOTLIGHT_TEST_KUBECONFIG"
HERE = Path(__file__).parent
SYSTEM = "pilotlight-system"
IMAGES = {"minio": "pilotlight.local/minio:dev", "postgres": "pilotlight.local/postgres:dev"}
SECONDS = 300.0
LAST = pytest.mark.last
"""For tests that look back on the others of this folder, or leave the cluster in disorder."""
CLIENT_SLEEP = "import time; time.sleep(1e6)"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker(LAST.name) is not None)


@pytest.fixture(scope="session")
def kubeconfig() -> Iterator[str]:
    """The cluster's, which is also everybody's that a test starts."""
    found = os.environ.get(VARIABLE, "")
    if not found:
        pytest.skip(f"no cluster: {VARIABLE} names no kubeconfig")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("KUBECONFIG", found)
        yield found


@pytest.fixture(scope="session")
def api(kubeconfig: str) -> Api:
    del kubeconfig
    return Api.connect()


def wait_for(met: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    """The first true answer; fails with its description when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if answer := met():
                return answer
        except (KubernetesError, httpx.HTTPError, AssertionError):
            pass  # the API server or the platform may be away for a while: that is what some tests are about
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.2)


@dataclass(frozen=True)
class Cluster:
    """The platform as its users see it, and the cluster as its operators do."""

    api: Api
    url: str
    key: str = field(repr=False)
    control_image: str
    rights: RightsUsed

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def pilotlight(self, *arguments: str, seconds: float = SECONDS, code: int = 0) -> str:
        """One command against the platform; what it printed."""
        environment = {**os.environ, "PILOTLIGHT_URL": self.url, "PILOTLIGHT_KEY": self.key}
        command = [str(Path(sys.executable).parent / "pilotlight"), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds, check=False)
        assert done.returncode == code, f"{arguments}: {done.stdout[-2000:]} {done.stderr[-2000:]}"
        return done.stdout + done.stderr

    def function(self, namespace: str, name: str, **spec: Any) -> Object:
        """Apply a Function as kubectl would; simulated unless `spec` says otherwise."""
        defaults = {
            "model": "s3://models/simulated:v1",
            "engine": {"kind": "simulated"},
            "resources": {"cpu": 0.02, "memory": "256Mi"},
            "scale": {"max": 1, "keepAlive": "10s"},
        }
        body = {"metadata": {"namespace": namespace, "name": name}, "spec": {**defaults, **spec}}
        return self.api.apply(FUNCTION, body)

    def condition(self, namespace: str, name: str, type_: str = "Ready") -> Any:
        return condition(self.api.get(FUNCTION, namespace, name), type_)

    def until_reached(self) -> None:
        """The way to the platform is there again: it breaks when the activator at its other end is replaced."""
        wait_for(lambda: httpx.get(f"{self.url}/healthz").status_code == 200, "the platform answers", 60)

    def until_ready(self, namespace: str, name: str, seconds: float = 120.0) -> None:
        """And the platform is reached."""
        self.until_reached()
        wait_for(
            lambda: self.condition(namespace, name).get("status") == "True", f"{namespace}/{name} is Ready", seconds
        )

    def pods(self, namespace: str, name: str = "") -> list[Object]:
        """Of functions; all that are not gone, those that end too."""
        found = self.api.list(POD, namespace, labels=FUNCTION_LABEL).items
        return [pod for pod in found if not name or labels_of(pod)[FUNCTION_LABEL] == name]

    def until_zero(self, namespace: str, name: str, seconds: float = 240.0) -> None:
        wait_for(lambda: not self.pods(namespace, name), f"{namespace}/{name} has no pod", seconds)

    def remains(self, namespace: str, name: str) -> list[str]:
        """Everything of any kind in the namespace that carries the function's label."""
        return [
            f"{kind.kind} {found['metadata']['name']}"
            for kind in self.kinds()
            for found in self.api.list(kind, namespace, labels=f"{FUNCTION_LABEL}={name}").items
        ]

    def kinds(self) -> list[Kind]:
        """Every namespaced kind that can be listed."""
        groups = [("", "v1", "/api/v1")]
        for group in self.api.raw("/apis")["groups"]:
            version = group["preferredVersion"]["version"]
            groups.append((group["name"], version, f"/apis/{group['name']}/{version}"))
        return [
            Kind(group, version, resource["kind"], resource["name"])
            for group, version, path in groups
            for resource in self.api.raw(path)["resources"]
            if resource["namespaced"] and "list" in resource["verbs"] and "/" not in resource["name"]
        ]

    def in_cluster(self, script: str, *arguments: str, seconds: float = SECONDS) -> Any:
        """Run a Python script in a pod of the cluster; the JSON that it prints last."""
        command = ["kubectl", "exec", "-i", "-n", "pilotlight-test-client", "client", "--", "python3", "-", *arguments]
        done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=seconds, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="session")
def cluster(api: Api) -> Iterator[Cluster]:
    """Installed once; stays, so that the next run begins sooner."""
    command = [str(Path(sys.executable).parent / "pilotlight"), "install", "--overlay", str(HERE / "overlay")]
    for name, image in IMAGES.items():
        command += ["--image", f"{name}={image}"]
    done = subprocess.run([*command, "--show-key", "--json"], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    key = json.loads(done.stdout)["key"]
    image = _control_image(api)
    _client_pod(api, image)
    port = _free_port()
    rights = RightsUsed(api, SYSTEM)
    with _forwarded(port), rights.watched():
        found = Cluster(api, f"http://127.0.0.1:{port}", key, image, rights)
        wait_for(lambda: httpx.get(f"{found.url}/healthz").status_code == 200, "the platform answers", 60)
        yield found


@contextmanager
def _forwarded(port: int) -> Iterator[None]:
    """The platform's address on this machine; forwarding goes to one pod, and begins anew when that has ended."""
    forward = f"kubectl -n {SYSTEM} port-forward service/pilotlight-activator {port}:80"
    command = ["sh", "-c", f"while :; do {forward}; sleep 0.2; done"]
    loop = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        os.killpg(loop.pid, signal.SIGTERM)
        loop.wait()


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    """A namespace of the test's own; it goes by itself when its pods have ended."""
    name = f"pilotlight-test-{uuid.uuid4().hex[:6]}"
    api.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    try:
        yield name
    finally:
        for found in api.list(FUNCTION, name).items:
            api.delete(FUNCTION, name, found["metadata"]["name"])
        api.delete(NAMESPACE, "", name)


def _control_image(api: Api) -> str:
    pods = api.list(POD, SYSTEM, labels="app.kubernetes.io/name=pilotlight-operator").items
    return str(pods[0]["spec"]["containers"][0]["image"])


def _client_pod(api: Api, image: str) -> None:
    name = "pilotlight-test-client"
    try:
        api.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    except KubernetesError as error:
        if error.status != 409:
            raise
    api.delete(POD, name, "client")
    container = {
        "name": "client",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", CLIENT_SLEEP],
    }

    def gone() -> bool:
        try:
            api.get(POD, name, "client")
        except NotFoundError:
            return True
        return False

    wait_for(gone, "the client pod of an earlier run is gone", 120)
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": name, "name": "client"},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }
    api.create(POD, body)
    wait_for(lambda: api.get(POD, name, "client")["status"].get("phase") == "Running", "the client pod runs", 120)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
