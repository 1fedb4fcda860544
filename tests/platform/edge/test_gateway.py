"""`pilotlight activator` as a process: from a request at zero to the ledger, and what it does without the others."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.platform.edge.conftest import CHAT, ingress
from tests.platform.edge.process import MASTER, NEW, Stage, staged, until
from tests.platform.link.conftest import Pki

from pilotlight.platform.kubernetes.kinds import INGRESS, SECRET, Key
from pilotlight.platform.kubernetes.secrets import EngineKeys
from pilotlight.platform.link.certificates import Role, issue
from pilotlight.runtime.spec import ReplicaState

if TYPE_CHECKING:
    from tests.platform.edge.apiserver import ApiServer


@pytest.fixture
async def stage(tmp_path: Path, api_server: ApiServer) -> AsyncIterator[Stage]:
    async with staged(tmp_path, api_server, Pki(tmp_path / "pki")) as made:
        yield made


async def test_a_request_at_zero_wakes_is_held_and_is_served_before_kubernetes_calls_the_pod_ready(
    stage: Stage,
) -> None:
    stage.at_zero()
    await stage.start()
    await stage.ready()

    asking = asyncio.create_task(stage.ask())
    await until(lambda: CHAT in stage.leader.woken, "a wake over the link")
    stage.running(ready=False)
    stage.pod.state = ReplicaState.READY
    answer = await asking

    assert answer.status == 200
    assert answer.headers["X-Pilotlight-Start"] == "cold"
    assert stage.pod.asked == [EngineKeys(MASTER)(CHAT.namespace, NEW)]
    await until(lambda: [row.outcome for row in stage.rows()] == ["ok"], "the ledger's row")
    [row] = stage.rows()
    assert (row.function, row.revision, row.replica, row.completion_tokens) == (CHAT, NEW, "pod-a", 1)


async def test_it_is_ready_when_it_has_certificates_and_has_read_the_api_server(stage: Stage) -> None:
    stage.running()
    certificate = stage.pki.activator / "tls.crt"
    content = certificate.read_bytes()
    certificate.unlink()
    stage.api_server.away()
    await stage.start()
    await until(lambda: "waits for its certificates" in stage.log.read_text(), "a word on the certificates")

    certificate.write_bytes(content)

    async def unread() -> bool:
        return await stage.readiness() == (503, "the API server has not been read yet")

    await until(unread, "a reason why it is not ready")
    stage.api_server.back()
    await stage.ready()
    assert (await stage.ask()).status == 200


async def test_without_the_api_server_and_the_leader_it_serves_what_it_knows(stage: Stage) -> None:
    stage.running()
    await stage.start()
    await stage.ready()
    async with stage.client.get(stage.url("/api/v1/functions")) as answer:
        assert (answer.status, await answer.text()) == (200, "/api/v1/functions")

    stage.api_server.away()
    await stage.leader.stop()

    async with stage.client.get(stage.url("/api/v1/functions")) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
    assert (await stage.ask()).status == 200
    assert (await stage.readiness())[0] == 200


async def test_a_function_at_zero_is_started_without_the_leader(stage: Stage) -> None:
    stage.at_zero()
    await stage.leader.stop()
    await stage.start(fail_open_seconds="0.5")
    await stage.ready()

    asking = asyncio.create_task(stage.ask())
    await until(lambda: stage.api_server.scales == {Key("team", f"{NEW}-deployment"): 1}, "a first replica")
    stage.running()

    assert (await asking).status == 200


async def test_keys_are_let_in_and_shut_out_while_it_runs(stage: Stage) -> None:
    stage.running()
    await stage.start()
    await stage.ready()
    record, secret = stage.keyring.create("later")

    async def let_in() -> bool:
        return (await stage.ask(secret)).status == 200

    async def shut_out() -> bool:
        return (await stage.ask(secret)).status == 401

    await until(let_in, "a new key's request")
    stage.keyring.revoke(record.id)
    await until(shut_out, "the refusal of a revoked key")
    assert not await let_in()


async def test_told_to_end_it_finishes_what_it_has_and_takes_nothing_new(stage: Stage) -> None:
    stage.running()
    stage.pod.go_on.clear()
    await stage.start(grace_seconds="0")
    await stage.ready()
    asking = asyncio.create_task(stage.ask())
    await until(lambda: bool(stage.pod.asked), "a request at the engine")

    stage.terminate()

    async def ending() -> bool:
        return await stage.readiness() == (503, "it ends")

    await until(ending, "the end of readiness")
    refused = await stage.ask()
    assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
    stage.pod.go_on.set()
    assert (await asking).status == 200
    assert await stage.ended() == 0
    assert [row.outcome for row in stage.rows() if row.replica] == ["ok"]


async def test_before_the_grace_is_over_it_serves_and_lets_go_of_connections(stage: Stage) -> None:
    stage.running()
    await stage.start(grace_seconds="600")
    await stage.ready()

    stage.terminate()

    async def ending() -> bool:
        return await stage.readiness() == (503, "it ends")

    await until(ending, "the end of readiness")
    answer = await stage.ask()
    assert (answer.status, answer.headers["Connection"]) == (200, "close")
    async with stage.client.get(stage.url("/api/v1/functions")) as answer:
        assert (answer.status, answer.headers["Connection"]) == (200, "close")


async def test_https_has_the_certificate_that_the_ingress_names_now(stage: Stage) -> None:
    stage.running()
    await stage.start()
    await stage.ready()
    certificates = {}
    for name in ("first", "second"):
        leaf = issue(stage.pki.ca, Role.OPERATOR, ["chat.example"], datetime.now(UTC))
        certificates[name] = leaf.certificate_pem
        data = {"tls.crt": b64encode(leaf.certificate_pem).decode(), "tls.key": b64encode(leaf.key_pem).decode()}
        stage.api_server.put(SECRET, {"metadata": {"namespace": "team", "name": name}, "data": data})

    for name in ("first", "second"):
        tls = [{"hosts": ["chat.example"], "secretName": name}]
        stage.api_server.put(INGRESS, ingress(CHAT, "chat.example", tls=tls, httpOption="Redirected"))

        async def shown(expected: bytes = certificates[name]) -> bool:
            return await stage.certificate("chat.example") == expected

        await until(shown, f"the {name} certificate")

    redirected = await stage.ask(path="/v1/chat/completions?x=1", Host="chat.example")
    assert (redirected.status, redirected.headers["Location"]) == (308, "https://chat.example/v1/chat/completions?x=1")
    assert (await stage.ask()).status == 200


async def test_metrics_are_told_on_the_inner_port_alone(stage: Stage) -> None:
    stage.running()
    await stage.start()
    await stage.ready()
    await stage.ask()

    async with stage.client.get(stage.url("/metrics", stage.ports[2])) as answer:
        assert 'function="team/chat"' in await answer.text() or 'function="chat"' in await answer.text()
    async with stage.client.get(stage.url("/metrics")) as answer:
        assert await answer.text() == "/metrics", "the leader was asked, as for every path that is no function's"


async def test_a_port_that_is_taken_is_named(stage: Stage) -> None:
    taken = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    await stage.start(http_port=str(port))

    assert await stage.ended() == 1
    assert "Address already in use" in stage.log.read_text()
    taken.close()
    await taken.wait_closed()
