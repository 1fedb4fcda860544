"""Which rights our processes use while the tests run, from their logs; also of those that are killed meanwhile."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from pilotlight.platform.kubernetes.api import USED, Api
from pilotlight.platform.kubernetes.errors import KubernetesError
from pilotlight.platform.kubernetes.kinds import POD, Object
from pilotlight.platform.kubernetes.uses import Use

COMPONENTS = ("operator", "activator")
LINES = 100_000
LOOK_SECONDS = 2.0


class RightsUsed:
    """Follows the log of every pod of the components; each process logs a right when it uses it for the first time."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api, self._namespace = api, namespace
        self._found: dict[str, set[Use]] = defaultdict(set)
        self._followed: set[str] = set()
        self._ends = threading.Event()

    def by(self, component: str) -> set[Use]:
        return set(self._found[component])

    @contextmanager
    def watched(self) -> Iterator[None]:
        watcher = threading.Thread(target=self._watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            self._ends.set()
            watcher.join()

    def _watch(self) -> None:
        while not self._ends.wait(LOOK_SECONDS):
            for component in COMPONENTS:
                self._look(component)

    def _look(self, component: str) -> None:
        try:
            pods = self._api.list(POD, self._namespace, labels=f"app.kubernetes.io/name=pilotlight-{component}").items
        except KubernetesError:
            return  # the server is away: the next look sees them
        for pod in pods:
            if pod["metadata"]["uid"] not in self._followed and pod["status"].get("phase") == "Running":
                self._followed.add(pod["metadata"]["uid"])
                threading.Thread(target=self._follow, args=(component, pod), daemon=True).start()

    def _follow(self, component: str, pod: Object) -> None:
        try:
            for line in self._api.log(self._namespace, pod["metadata"]["name"], component, LINES, follow=True):
                self._read(component, line)
        except KubernetesError:
            pass
        self._followed.discard(pod["metadata"]["uid"])  # a container that begins anew has a log of its own

    def _read(self, component: str, line: bytes) -> None:
        try:
            event = json.loads(line) if USED.encode() in line else {}
        except ValueError:
            return  # the process was killed while it wrote
        if event.get("event") == USED:
            self._found[component].add(Use(event["verb"], event["group"], event["resource"]))
