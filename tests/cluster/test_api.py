"""The seam to Kubernetes on a real API server: verbs and their errors, mirrors that heal, and who leads."""

from __future__ import annotations

import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilotlight.platform.clock import SystemClock
from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.election import LEASE_SECONDS, Election
from pilotlight.platform.kubernetes.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnreachableError,
)
from pilotlight.platform.kubernetes.kinds import CONFIG_MAP, FUNCTION, LEASE, NAMESPACE, Key, Kind, Object
from pilotlight.platform.kubernetes.mirror import Mirror

SECONDS = 60.0


def config_map(namespace: str, name: str, **data: str) -> dict[str, Any]:
    metadata = {"namespace": namespace, "name": name, "labels": {"test": "api"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


class TcpProxy:
    """Passes bytes on; `cut` ends all connections and refuses new ones, `stall` holds every byte back."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._passing = threading.Event()
        self._passing.set()
        self._there = True
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._there = False
        with self._lock:
            cut, self._open = self._open, []
        for each in cut:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._there = True

    def stall(self) -> None:
        self._passing.clear()

    def close(self) -> None:
        self._passing.set()
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if not self._there:
                    near.close()
                    continue
                far = socket.create_connection(self._target)
                with self._lock:
                    self._open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(2**16):
                self._passing.wait()
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        source.close()  # the pump of the other direction closes the sink


@pytest.fixture
def proxy(kubeconfig: str) -> Iterator[TcpProxy]:
    content = yaml.safe_load(Path(kubeconfig).read_text())
    host, _, port = content["clusters"][0]["cluster"]["server"].removeprefix("https://").rpartition(":")
    made = TcpProxy((host, int(port)))
    yield made
    made.close()


@pytest.fixture
def through(proxy: TcpProxy, kubeconfig: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Api]:
    """Clients that reach the API server through the proxy."""
    content = yaml.safe_load(Path(kubeconfig).read_text())
    for each in content["clusters"]:
        name = each["cluster"]["server"].removeprefix("https://").rpartition(":")[0]
        each["cluster"] |= {"server": f"https://127.0.0.1:{proxy.port}", "tls-server-name": name}
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(content))

    def connect() -> Api:
        with monkeypatch.context() as patched:
            patched.setenv("KUBECONFIG", str(path))
            return Api.connect()

    return connect


@pytest.fixture
def room(api: Api) -> Iterator[str]:
    """A namespace of the test's own, without functions."""
    name = f"pilotlight-test-api-{uuid.uuid4().hex[:6]}"
    api.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    api.delete(NAMESPACE, "", name)


# Verbs


def test_objects_are_made_read_changed_and_deleted(api: Api, room: str) -> None:
    made = api.create(CONFIG_MAP, config_map(room, "a", x="1"))
    assert api.get(CONFIG_MAP, room, "a")["data"] == {"x": "1"}

    api.patch(CONFIG_MAP, room, "a", {"data": {"y": "2"}})
    api.patch(CONFIG_MAP, room, "a", [{"op": "replace", "path": "/data/x", "value": "3"}])
    assert api.get(CONFIG_MAP, room, "a")["data"] == {"x": "3", "y": "2"}

    applied = api.apply(CONFIG_MAP, config_map(room, "a", x="4"))
    assert (applied["metadata"]["uid"], applied["data"]["x"]) == (made["metadata"]["uid"], "4")
    api.apply(CONFIG_MAP, config_map(room, "dry"), dry_run=True)

    api.delete(CONFIG_MAP, room, "a")
    api.delete(CONFIG_MAP, room, "a")  # one that is gone is no error
    for name in ("a", "dry"):
        with pytest.raises(NotFoundError):
            api.get(CONFIG_MAP, room, name)


def test_a_list_is_whole_over_many_pages(api: Api, room: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilotlight.platform.kubernetes.api.PAGE", 2)
    for number in range(5):
        api.create(CONFIG_MAP, config_map(room, f"c{number}"))

    found = api.list(CONFIG_MAP, room, labels="test=api").items
    assert [each["metadata"]["name"] for each in found] == [f"c{number}" for number in range(5)]
    assert len(api.list(CONFIG_MAP, room, fields="metadata.name=c3").items) == 1


@pytest.mark.usefixtures("cluster")
def test_each_refusal_is_of_its_kind(api: Api, room: str) -> None:
    made = api.create(CONFIG_MAP, config_map(room, "a"))
    with pytest.raises(ConflictError):
        api.create(CONFIG_MAP, config_map(room, "a"))
    api.patch(CONFIG_MAP, room, "a", {"data": {"y": "2"}})
    stale = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "data": {"y": "3"}}
    with pytest.raises(ConflictError):
        api.patch(CONFIG_MAP, room, "a", stale)
    with pytest.raises(InvalidError):
        api.create(CONFIG_MAP, config_map(room, "Not A Name"))
    with pytest.raises(NotFoundError):
        api.list(Kind("nobody.example", "v1", "Thing", "things"))
    with pytest.raises(InvalidError, match="spec"):
        api.apply(FUNCTION, {"metadata": {"namespace": room, "name": "f"}, "spec": {"scale": {"min": -1}}})


def test_a_stranger_is_forbidden(api: Api, kubeconfig: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = yaml.safe_load(Path(kubeconfig).read_text())
    content["users"] = [{"name": each["name"], "user": {"token": "nobody"}} for each in content["users"]]
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(content))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))

    with pytest.raises(ForbiddenError):
        Api.connect().list(CONFIG_MAP, "default")
    assert abs(api.date() - SystemClock().now()) < 600


def test_a_server_that_is_away_is_unreachable(through: Callable[[], Api], proxy: TcpProxy, room: str) -> None:
    away = through()
    assert away.list(CONFIG_MAP, room).version
    proxy.cut()

    with pytest.raises(UnreachableError):
        away.list(CONFIG_MAP, room)


# Mirrors


class Watched:
    """A mirror of a namespace's ConfigMaps, and what it has told."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.told: list[str] = []
        self.mirror = Mirror(api, CONFIG_MAP, self._changed, namespace=namespace, labels="test=api")
        self.mirror.start()
        assert self.mirror.wait(SECONDS)

    def _changed(self, key: Key) -> None:
        self.told.append(key.name)

    @property
    def data(self) -> dict[str, Any]:
        return {key.name: found.get("data", {}) for key, found in self.mirror.objects.items()}


Until = Callable[[Callable[[], bool], str], None]


def test_a_mirror_sees_what_is_made_changed_and_deleted(api: Api, room: str, until: Until) -> None:
    api.create(CONFIG_MAP, config_map(room, "first", x="1"))
    watched = Watched(api, room)
    assert watched.data == {"first": {"x": "1"}}

    api.create(CONFIG_MAP, config_map(room, "second"))
    until(lambda: "second" in watched.data, "what was made")
    api.patch(CONFIG_MAP, room, "second", {"data": {"y": "2"}})
    until(lambda: watched.data["second"] == {"y": "2"}, "what was changed")
    api.delete(CONFIG_MAP, room, "second")
    until(lambda: "second" not in watched.data, "what was deleted")

    until(lambda: watched.told[-3:] == ["second"] * 3, "word of each change")
    assert watched.mirror.get(room, "first") is not None
    watched.mirror.close()


def test_a_mirror_goes_on_when_the_server_ends_its_watch(
    api: Api, room: str, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pilotlight.platform.kubernetes.api.WATCH_SECONDS", 1)
    watched = Watched(api, room)
    calls = api.calls
    until(lambda: api.calls >= calls + 3, "the third watch")

    api.create(CONFIG_MAP, config_map(room, "late"))

    until(lambda: "late" in watched.data, "what was made after that")
    watched.mirror.close()
    assert watched.mirror.get(room, "late") is not None


def test_a_mirror_keeps_its_copy_while_the_server_is_away_and_then_sees_what_it_missed(
    api: Api, through: Callable[[], Api], proxy: TcpProxy, room: str, until: Until
) -> None:
    for name in ("stays", "changes", "goes"):
        api.create(CONFIG_MAP, config_map(room, name))
    watched = Watched(through(), room)
    proxy.cut()
    api.delete(CONFIG_MAP, room, "goes")
    api.patch(CONFIG_MAP, room, "changes", {"data": {"x": "1"}})
    api.create(CONFIG_MAP, config_map(room, "comes"))
    assert set(watched.data) == {"stays", "changes", "goes"}
    watched.told.clear()

    proxy.mend()

    until(lambda: set(watched.data) == {"stays", "changes", "comes"}, "everything that was missed")
    until(lambda: len(watched.told) >= 3, "word of it")
    assert watched.data["changes"] == {"x": "1"}
    assert sorted(watched.told) == ["changes", "comes", "goes"], "only of what is different"
    watched.mirror.close()


# Elections


class Candidate:
    """One that runs for leader."""

    def __init__(self, api: Api, namespace: str, name: str, at_won: Callable[[], None] = lambda: None) -> None:
        self.won, self.lost = threading.Event(), threading.Event()
        self._at_won = at_won
        self.election = Election(api, namespace, "leader", name, SystemClock(), self._has_won, self.lost.set)
        self.election.start()

    def _has_won(self) -> None:
        self._at_won()
        self.won.set()


def lease(api: Api, namespace: str) -> Object:
    found: Object = api.get(LEASE, namespace, "leader")["spec"]
    return found


def test_one_of_two_leads_and_the_other_one_does_when_it_leaves(api: Api, room: str) -> None:
    first = Candidate(api, room, "a")
    assert first.won.wait(SECONDS)
    second = Candidate(api, room, "b")
    assert not second.won.wait(3.0)
    assert lease(api, room)["holderIdentity"] == "a"

    first.election.close()

    assert second.won.wait(LEASE_SECONDS - 5), "it waited for the lease to run out"
    assert not first.lost.is_set()
    second.election.close()
    assert lease(api, room)["holderIdentity"] == ""


@pytest.mark.parametrize("how", ["cut", "stall"])
def test_a_leader_that_is_cut_off_has_stopped_before_the_next_one_begins(
    api: Api, through: Callable[[], Api], proxy: TcpProxy, room: str, how: str
) -> None:
    first = Candidate(through(), room, "a")
    assert first.won.wait(SECONDS)
    leads: list[bool] = []
    second = Candidate(api, room, "b", at_won=lambda: leads.append(first.election.leads))

    getattr(proxy, how)()

    assert second.won.wait(SECONDS)
    assert leads == [False]
    assert first.lost.is_set()
    proxy.cut()
    for each in (first, second):
        each.election.close()
