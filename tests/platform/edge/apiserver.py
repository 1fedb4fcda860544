"""The API server as an activator sees it: lists, watches, Secrets and scales, from what a test puts there."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubernetes import client

from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.kinds import DEPLOYMENT, Key, Kind, Object, key_of

FROM_ZERO = {"op": "test", "path": "/spec", "value": {}}


class ApiServer:
    """Plain HTTP on loopback. `away` takes it from the network, connections and all; `back` brings it to its place."""

    def __init__(self) -> None:
        self.scales: dict[Key, int] = {}
        """Replicas by Deployment."""
        self._objects: dict[str, dict[Key, Object]] = defaultdict(dict)
        self._events: list[tuple[str, Mapping[str, Any]]] = []
        self._news = threading.Condition()
        self._port = 0
        self.back()

    def put(self, kind: Kind, body: Mapping[str, Any]) -> None:
        """Make or replace an object."""
        key = key_of(body)
        with self._news:
            version = str(len(self._events) + 1)
            found = {**body, "metadata": {"generation": 1, **body["metadata"], "resourceVersion": version}}
            type_ = "MODIFIED" if key in self._objects[kind.path()] else "ADDED"
            self._objects[kind.path()][key] = found
            self._happened(kind, type_, found)

    def remove(self, kind: Kind, key: Key) -> None:
        with self._news:
            found = self._objects[kind.path()].pop(key)
            version = str(len(self._events) + 1)
            self._happened(kind, "DELETED", {**found, "metadata": {**found["metadata"], "resourceVersion": version}})

    def kubeconfig(self, path: Path) -> Path:
        name = {"name": "here"}
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "here",
                    "clusters": [{**name, "cluster": {"server": self.url}}],
                    "users": [{**name, "user": {}}],
                    "contexts": [{**name, "context": {"cluster": "here", "user": "here"}}],
                }
            )
        )
        return path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def api(self) -> Api:
        return Api(client.ApiClient(client.Configuration(host=self.url)))

    def away(self) -> None:
        self._here = False
        with self._news:
            self._news.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def back(self) -> None:
        handler = type("Handler", (_Handler,), {"cluster": self})
        self._server = _Server(("127.0.0.1", self._port), handler)
        self._port = self._server.server_address[1]
        self._here = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    # What the handler asks

    def listing(self, path: str) -> Mapping[str, Any]:
        with self._news:
            items = list(self._objects[path].values())
            return {"items": items, "metadata": {"resourceVersion": str(len(self._events))}}

    def one(self, path: str) -> Object | None:
        _, _, rest = path.partition("/namespaces/")
        namespace, plural, name = rest.split("/")
        with self._news:
            return self._objects[path.replace(f"/namespaces/{rest}", f"/{plural}")].get(Key(namespace, name))

    def events(self, path: str, version: int) -> Iterator[Mapping[str, Any]]:
        """Until it goes away."""
        while self._here:
            with self._news:
                while len(self._events) == version and self._here:
                    self._news.wait()
                fresh, version = self._events[version:], len(self._events)
            yield from (event for where, event in fresh if where == path)

    def scale(self, path: str, patch: list[Mapping[str, Any]]) -> bool:
        """A count of zero is left out of a scale, as the real one does; False: the patch does not fit."""
        namespace, _, name, _ = path.removeprefix(f"{DEPLOYMENT.path().rpartition('/')[0]}/namespaces/").split("/")
        key = Key(namespace, name)
        spec = {"replicas": self.scales[key]} if self.scales.get(key) else {}
        for step in patch:
            if step == {**FROM_ZERO, "value": spec}:
                continue
            if step["op"] != "add" or step["path"] != "/spec/replicas":
                return False
            self.scales[key] = step["value"]
        return True

    def _happened(self, kind: Kind, type_: str, found: Object) -> None:
        self._events.append((kind.path(), {"type": type_, "object": found}))
        self._news.notify_all()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is none of ours."""


class _Handler(BaseHTTPRequestHandler):
    cluster: ApiServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass

    def do_GET(self) -> None:  # the base class's name
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if "watch" in query:
            self._watch(url.path, int(query["resourceVersion"][0]))
        elif "/namespaces/" in url.path:
            found = self.cluster.one(url.path)
            self._answer(404 if found is None else 200, found or {"reason": "NotFound", "message": "not found"})
        else:
            self._answer(200, self.cluster.listing(url.path))

    def do_PATCH(self) -> None:  # the base class's name
        patch = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fits = self.cluster.scale(urlsplit(self.path).path, patch)
        self._answer(200 if fits else 422, {} if fits else {"reason": "Invalid", "message": "the test failed"})

    def _watch(self, path: str, version: int) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        for event in self.cluster.events(path, version):
            line = json.dumps(event).encode() + b"\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)
