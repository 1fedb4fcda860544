"""Requests to functions from inside the cluster, as its own clients send them: through the Service, by no proxy."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.conftest import SYSTEM, Cluster, wait_for

from pilotlight.platform.kubernetes.kinds import DEPLOYMENT, POD, Object
from pilotlight.platform.kubernetes.kinds import SERVICE as SERVICE_KIND
from pilotlight.platform.kubernetes.pods import is_ready, leaves

SERVICE = f"http://pilotlight-activator.{SYSTEM}.svc.cluster.local"
SCRIPT = (Path(__file__).parent / "pod" / "load.py").read_text()
DETACHED = """
import pathlib, subprocess, sys
folder = pathlib.Path({folder!r})
folder.mkdir()
(folder / "load.py").write_text({script!r})
log = (folder / "log").open("wb")
subprocess.Popen([sys.executable, str(folder / "load.py")], stdout=log, stderr=log, start_new_session=True)
print("{{}}")
"""
STOP_SERVER = {"postgres": ["bash", "-c", "kill -INT 1"], "minio": ["bash", "-c", "kill -TERM 1"]}
"""By component, in its container, which is started again at once with its data."""
LOOK = """
import json, pathlib
folder = pathlib.Path({folder!r})
told = folder / "told.json"
log = (folder / "log").read_text()
print(json.dumps(json.loads(told.read_text()) if told.exists() else {{"answered": 0, "ended": False, "log": log}}))
"""
STOP = """
import pathlib
(pathlib.Path({folder!r}) / "stop").touch()
print("{{}}")
"""


def burst(
    cluster: Cluster, *models: str, requests: int, max_tokens: int = 8, urls: tuple[str, ...] = (SERVICE,)
) -> Any:
    """So many requests at once, to the functions in turn; what became of them."""
    settings = _settings(cluster, models, max_tokens, urls) | {"mode": "burst", "requests": requests}
    return cluster.in_cluster(_script(settings))


@dataclass(frozen=True)
class Steady:
    """Requests that go on in the client pod, whatever becomes of the API server meanwhile."""

    cluster: Cluster
    folder: str

    def look(self) -> Any:
        return self.cluster.in_cluster(LOOK.format(folder=self.folder), seconds=60)

    def more(self, answers: int, seconds: float = 120.0) -> None:
        """Wait until so many more were answered."""
        before = self.look()["answered"]
        wait_for(lambda: self.look()["answered"] >= before + answers, f"{answers} more answers", seconds)

    def stop(self) -> Any:
        """The requests in flight are still answered; what became of all."""
        self.cluster.in_cluster(STOP.format(folder=self.folder), seconds=60)
        return wait_for(lambda: (told := self.look())["ended"] and told, "the last requests are answered", 120)


@contextmanager
def steady(
    cluster: Cluster,
    model: str,
    together: int,
    max_tokens: int = 30,
    urls: tuple[str, ...] = (SERVICE,),
    wait: bool = True,
) -> Iterator[Steady]:
    """So many in flight all the while; `wait`: until the first are answered."""
    folder = f"/tmp/load-{uuid.uuid4().hex[:8]}"  # noqa: S108 - in the client pod, which is ours alone
    settings = _settings(cluster, (model,), max_tokens, urls) | {
        "mode": "steady",
        "together": together,
        "folder": folder,
    }
    cluster.in_cluster(DETACHED.format(folder=folder, script=_script(settings)))
    traffic = Steady(cluster, folder)
    try:
        if wait:
            traffic.more(together)
        yield traffic
    finally:
        cluster.in_cluster(STOP.format(folder=folder), seconds=60)


def system_pods(cluster: Cluster, component: str) -> list[Object]:
    """Of the platform, ready and staying."""
    found = cluster.api.list(POD, SYSTEM, labels=f"app.kubernetes.io/name=pilotlight-{component}").items
    return [pod for pod in found if is_ready(pod) and not leaves(pod)]


def scale(cluster: Cluster, component: str, replicas: int) -> None:
    cluster.api.patch(DEPLOYMENT, SYSTEM, f"pilotlight-{component}", {"spec": {"replicas": replicas}})


@contextmanager
def scaled_to(cluster: Cluster, component: str, replicas: int) -> Iterator[None]:
    """So many processes of a part of the platform, and in the end as many as before, all ready."""
    before = cluster.api.get(DEPLOYMENT, SYSTEM, f"pilotlight-{component}")["spec"]["replicas"]
    scale(cluster, component, replicas)
    try:
        wait_for(
            lambda: len(_alive(cluster, component)) == replicas, f"{replicas} of pilotlight-{component} are left", 60
        )
        yield
    finally:
        scale(cluster, component, before)
        wait_for(lambda: len(system_pods(cluster, component)) == before, f"pilotlight-{component} is back", 120)


@contextmanager
def unreachable(cluster: Cluster, component: str) -> Iterator[None]:
    """A server that nobody reaches, neither by new connections nor by old ones; it keeps what it has."""
    service, stop = f"pilotlight-{component}", STOP_SERVER[component]
    selector = cluster.api.get(SERVICE_KIND, SYSTEM, service)["spec"]["selector"]
    cluster.api.patch(SERVICE_KIND, SYSTEM, service, {"spec": {"selector": {"pilotlight.test/away": "true"}}})
    try:
        subprocess.run(
            ["kubectl", "exec", "-n", SYSTEM, f"deployment/{service}", "--", *stop],
            check=False,  # the server ends before it could say so
            capture_output=True,
            timeout=60,
        )
        yield
    finally:
        gone = dict.fromkeys(["pilotlight.test/away"])
        cluster.api.patch(SERVICE_KIND, SYSTEM, service, {"spec": {"selector": {**gone, **selector}}})
        wait_for(lambda: system_pods(cluster, component), f"{service} is back", 120)


def kill(cluster: Cluster, pod: str) -> None:
    """At once: no process gets a word of it before it is gone."""
    cluster.api.delete(POD, SYSTEM, pod, grace_seconds=0)


def used(cluster: Cluster, function: str) -> dict[str, int]:
    """Of the ledger: how many requests to a function had which result, and their tokens."""
    rows = json.loads(cluster.pilotlight("usage", "--by", "function", "--json"))
    return next((row for row in rows if row["group"] == function), {"requests": 0, "completion_tokens": 0})


def _alive(cluster: Cluster, component: str) -> Sequence[Object]:
    return cluster.api.list(POD, SYSTEM, labels=f"app.kubernetes.io/name=pilotlight-{component}").items


def _settings(cluster: Cluster, models: tuple[str, ...], max_tokens: int, urls: tuple[str, ...]) -> dict[str, Any]:
    return {"key": cluster.key, "models": list(models), "max_tokens": max_tokens, "urls": list(urls)}


def _script(settings: dict[str, Any]) -> str:
    return f"{SCRIPT}\n\nrun({settings!r})\n"
