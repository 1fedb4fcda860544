"""Which certificates HTTPS is served with, and which hosts are sent to it."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.platform.edge.conftest import CHAT, Holder, ingress

from pilotlight.activator.tls import Certificate
from pilotlight.platform.edge.certificates import SECRET_SECONDS, Source
from pilotlight.platform.kubernetes.kinds import SECRET, Key

if TYPE_CHECKING:
    from tests.platform.conftest import ManualClock
    from tests.platform.edge.apiserver import ApiServer

HOST = "chat.example"


class Stage:
    """One ingress with a certificate."""

    def __init__(self, api_server: ApiServer, clock: ManualClock, folder: Path) -> None:
        self.server, self.clock, self.folder = api_server, clock, folder
        self.ingresses = Holder()
        self.source = Source(api_server.api(), self.ingresses, folder, clock)

    def ingress(self, *hosts: str, named: str = "tls", **changes: str) -> None:
        tls = [{"hosts": list(hosts), "secretName": named}]
        self.ingresses.put(ingress(CHAT, *hosts, tls=tls, **changes))

    def secret(self, content: str, name: str = "tls") -> Certificate:
        made = Certificate(content.encode(), b"key")
        data = {"tls.crt": b64encode(made.chain).decode(), "tls.key": b64encode(made.key).decode()}
        self.server.put(SECRET, {"metadata": {"namespace": "team", "name": name}, "data": data})
        return made

    def hosts(self) -> dict[str, Certificate]:
        return dict(self.source.read().hosts)


@pytest.fixture
def stage(api_server: ApiServer, clock: ManualClock, tmp_path: Path) -> Stage:
    return Stage(api_server, clock, tmp_path)


def test_without_any_there_is_no_https(stage: Stage) -> None:
    stage.ingresses.put(ingress(CHAT, HOST))

    assert stage.source.read().default is None


def test_a_host_has_the_certificate_of_its_ingress_and_is_the_default_where_there_is_none(stage: Stage) -> None:
    made = stage.secret("first")
    stage.ingress(HOST, "www.chat.example")

    found = stage.source.read()

    assert found.hosts == {HOST: made, "www.chat.example": made}
    assert found.default == made


def test_the_folders_is_the_default(stage: Stage) -> None:
    (stage.folder / "tls.crt").write_bytes(b"own")
    (stage.folder / "tls.key").write_bytes(b"own key")
    stage.secret("first")
    stage.ingress(HOST)

    assert stage.source.read().default == Certificate(b"own", b"own key")


def test_a_secret_is_read_again_after_some_minutes_and_not_before(stage: Stage) -> None:
    first = stage.secret("first")
    stage.ingress(HOST)
    assert stage.hosts() == {HOST: first}
    second = stage.secret("second")

    stage.clock.time += SECRET_SECONDS - 1
    assert stage.hosts() == {HOST: first}
    stage.clock.time += 1
    assert stage.hosts() == {HOST: second}


def test_another_secret_is_read_at_once(stage: Stage) -> None:
    stage.secret("first")
    second = stage.secret("second", "other")
    stage.ingress(HOST)
    stage.hosts()

    stage.ingress(HOST, named="other")

    assert stage.hosts() == {HOST: second}


def test_what_was_read_stays_while_the_api_server_is_away_or_the_secret_is_broken(stage: Stage) -> None:
    first = stage.secret("first")
    stage.ingress(HOST)
    stage.hosts()
    stage.clock.time += SECRET_SECONDS

    stage.server.away()
    assert stage.hosts() == {HOST: first}

    stage.server.back()
    stage.server.put(SECRET, {"metadata": {"namespace": "team", "name": "tls"}, "data": {"tls.crt": "?"}})
    assert stage.hosts() == {HOST: first}


def test_one_that_comes_late_is_found_with_the_next_look(stage: Stage) -> None:
    stage.ingress(HOST)
    assert stage.hosts() == {}

    made = stage.secret("first")

    assert stage.hosts() == {HOST: made}


def test_hosts_of_the_world_outside_are_redirected_where_the_ingress_says_so(stage: Stage) -> None:
    stage.ingresses.put(ingress(CHAT, "Chat.Example", httpOption="Redirected"))
    assert stage.source.read().redirected == {"chat.example"}

    stage.ingresses.put(ingress(CHAT, HOST, httpOption="Redirected", visibility="ClusterLocal"))
    assert stage.source.read().redirected == frozenset()

    stage.ingresses.put(ingress(CHAT, HOST, httpOption="Enabled"))
    assert stage.source.read().redirected == frozenset()


def test_ingresses_of_another_class_bring_none(stage: Stage) -> None:
    stage.secret("first")
    stage.ingress(HOST, class_name="kourier")

    assert stage.source.read().default is None
    assert stage.ingresses.get(*Key(*CHAT)) is not None
