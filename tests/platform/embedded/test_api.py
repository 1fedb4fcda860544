"""The control API over HTTP: who may do what, what is refused and how, what it shows."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

API = "/api/v1alpha1"


@pytest.fixture(scope="module", autouse=True)
def _functions(up: Any) -> None:
    assert up.deploy("chat").status_code == 200
    assert up.deploy("other").status_code == 200
    assert up.chat("chat").status_code == 200


def make_key(up: Any, **scopes: Any) -> str:
    answer = up.ask("POST", f"{API}/keys", json={"name": "test", **scopes})
    assert answer.status_code == 200, answer.text
    secret: str = answer.json()["secret"]
    return secret


def error(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()["error"]
    assert set(found) == {"message", "type", "code", "param", "details"}
    return found


class TestKeys:
    def test_every_request_needs_one(self, up: Any) -> None:
        for path in (
            f"{API}/functions",
            f"{API}/keys",
            f"{API}/usage",
            "/metrics",
            f"{API}/functions/team-a/chat/logs",
        ):
            assert error(httpx.get(up.url + path, trust_env=False), 401)["code"] == "invalid_api_key"
            assert error(up.ask("GET", path, "pl-wrong"), 401)["type"] == "authentication_error"
        assert httpx.get(f"{up.url}/v1/models", trust_env=False).status_code == 401

    def test_a_namespaces_key_manages_its_functions_and_no_others(self, up: Any) -> None:
        mine, other = make_key(up, namespaces=["team-a"]), make_key(up, namespaces=["team-b"])

        assert up.deploy("third", mine).status_code == 200
        assert error(up.deploy("third", other), 403)["code"] == "forbidden"
        assert error(up.ask("DELETE", f"{API}/functions/team-a/third", other), 403)
        assert up.ask("DELETE", f"{API}/functions/team-a/third", mine).status_code == 204
        assert up.ask("GET", f"{API}/functions", other).json() == {"items": []}
        assert up.ask("GET", f"{API}/replicas", other).json() == {"items": []}
        assert up.ask("GET", f"{API}/decisions", other).json() == {"items": []}
        assert up.ask("GET", f"{API}/revisions", other).json() == {"items": []}
        assert up.ask("GET", f"{API}/usage", other).json() == {"items": []}
        assert error(up.ask("GET", f"{API}/functions/team-a/chat", other), 404)
        assert error(up.ask("GET", f"{API}/functions/team-a/chat/describe", other), 404)
        assert up.chat("chat", other).status_code == 404

    def test_a_functions_key_calls_it_and_manages_nothing(self, up: Any) -> None:
        key = make_key(up, functions=["team-a/chat"])

        assert up.chat("chat", key).status_code == 200
        assert up.chat("other", key).status_code == 404
        assert [f["name"] for f in up.ask("GET", f"{API}/functions", key).json()["items"]] == ["chat"]
        assert error(up.deploy("chat", key), 403)
        assert error(up.ask("GET", f"{API}/functions/team-a/chat/logs", key), 403)
        [row] = up.ask("GET", f"{API}/usage/rows", key).json()["items"]
        assert row["completion_tokens"] == 4

    @pytest.mark.parametrize(
        ("method", "path"), [("GET", "/keys"), ("POST", "/keys"), ("DELETE", "/keys/key-1"), ("GET", "/audit")]
    )
    def test_keys_and_audit_are_for_admins(self, up: Any, method: str, path: str) -> None:
        key = make_key(up, namespaces=["team-a"])

        assert error(up.ask(method, API + path, key), 403)["type"] == "permission_error"
        assert error(up.ask("GET", "/metrics", key), 403)

    def test_a_revoked_key_opens_nothing(self, up: Any) -> None:
        made = up.ask("POST", f"{API}/keys", json={"name": "short", "namespaces": ["team-a"]}).json()
        assert up.chat("chat", made["secret"]).status_code == 200

        assert up.ask("DELETE", f"{API}/keys/{made['id']}").status_code == 204

        assert up.chat("chat", made["secret"]).status_code == 401
        assert error(up.ask("DELETE", f"{API}/keys/{made['id']}"), 404)
        shown = next(key for key in up.items("keys") if key["id"] == made["id"])
        assert shown["revoked_at"]
        assert "secret" not in shown
        actions = [(entry["action"], entry["target"]) for entry in up.items("audit")]
        assert actions[:2] == [("revoke key", made["id"]), ("create key", made["id"])]

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            pytest.param({"name": "x"}, "needs a scope", id="no scope"),
            pytest.param({"name": "x", "namespaces": []}, "namespaces", id="empty scope"),
            pytest.param({"name": "x", "admin": True, "color": 1}, "color", id="unknown field"),
            pytest.param({"name": "x", "functions": ["chat"]}, "functions.0", id="no full name"),
            pytest.param({"admin": True}, "name", id="no name"),
        ],
    )
    def test_a_key_that_cannot_be_made(self, up: Any, body: dict[str, Any], said: str) -> None:
        found = error(up.ask("POST", f"{API}/keys", json=body), 400)

        assert said in found["message"] + " ".join(found["details"])


class TestRefusals:
    @pytest.mark.parametrize(
        ("path", "said"),
        [
            pytest.param("/functions?colour=red", "colour", id="unknown parameter"),
            pytest.param("/decisions?limit=0", "limit", id="too small"),
            pytest.param("/decisions?limit=many", "limit", id="no number"),
            pytest.param("/decisions?limit=1&limit=2", "twice", id="twice"),
            pytest.param("/decisions?function=chat", "function", id="no full name"),
            pytest.param("/usage?by=colour", "by", id="unknown group"),
            pytest.param("/functions/team-a/chat/logs?tail=100000000", "tail", id="more lines than allowed"),
        ],
    )
    def test_query_parameters(self, up: Any, path: str, said: str) -> None:
        found = error(up.ask("GET", API + path), 400)

        assert said in found["message"] + " ".join(found["details"])

    def test_a_body_beyond_the_limit(self, up: Any) -> None:
        found = error(up.ask("POST", f"{API}/functions", content=b"#" * (2**20 + 1)), 413)
        assert "1048576" in found["message"]
        assert error(up.ask("POST", f"{API}/keys", content=b" " * (2**16 + 1)), 413)

    @pytest.mark.parametrize(
        "body", [b"", b"\xff\xfe", b"- nonsense", b"a: [", b"apiVersion: pilotlight.dev/v1alpha1\nkind: Function\n"]
    )
    def test_what_is_no_manifest(self, up: Any, body: bytes) -> None:
        answer = up.ask("POST", f"{API}/functions", content=body, headers={"content-type": "application/yaml"})

        assert answer.status_code in (400, 422)
        assert error(answer, answer.status_code)["message"]

    def test_a_manifest_with_a_misspelt_field_names_the_nearest(self, up: Any) -> None:
        found = error(up.deploy("chat", scale={"keepalive": "1s"}), 422)

        assert "keepAlive" in found["message"]

    def test_several_manifests_are_all_or_nothing(self, up: Any) -> None:
        good = "apiVersion: pilotlight.dev/v1alpha1\nkind: Function\nmetadata: {name: fine}\n"
        simulated = "spec: {model: 's3://models/tiny', engine: {kind: simulated}}\n"
        missing = "spec: {model: 's3://models/missing'}\n"
        text = f"{good}{simulated}---\n{good.replace('fine', 'broken')}{missing}"

        found = error(up.ask("POST", f"{API}/functions", content=text.encode()), 422)

        assert "default/broken" in found["message"] or "missing" in found["message"]
        assert error(up.ask("GET", f"{API}/functions/default/fine"), 404)

    def test_a_function_that_is_named_twice(self, up: Any) -> None:
        content = {
            "apiVersion": "pilotlight.dev/v1alpha1",
            "kind": "Function",
            "metadata": {"name": "twice"},
            "spec": {"model": "s3://models/tiny", "engine": {"kind": "simulated"}},
        }

        found = error(up.ask("POST", f"{API}/functions", json=[content, content]), 422)

        assert "default/twice is there twice" in found["message"]

    def test_what_cannot_fit_is_refused_with_the_arithmetic(self, up: Any) -> None:
        found = error(up.deploy("large", resources={"memory": "4000Gi"}), 422)

        assert "4000.00 GiB" in found["message"]
        assert "--memory" in found["message"]
        assert error(up.ask("GET", f"{API}/functions/team-a/large"), 404)

    def test_unknown_paths_and_methods(self, up: Any) -> None:
        assert "openapi.json" in error(up.ask("GET", f"{API}/nothing"), 404)["message"]
        assert error(up.ask("PATCH", f"{API}/functions"), 405)
        assert error(up.ask("GET", "/nothing"), 404)


class TestReading:
    def test_a_namespaces_usage_has_no_seconds_of_others(self, up: Any) -> None:
        mine = make_key(up, namespaces=["team-b"])
        assert any(total["replica_starting_seconds"] for total in up.items("usage", by="key"))

        assert up.ask("GET", f"{API}/usage", mine, params={"by": "key"}).json() == {"items": []}

    def test_a_description_has_everything_and_no_secret(self, up: Any) -> None:
        answer = up.ask("GET", f"{API}/functions/team-a/chat/describe")
        found = answer.json()

        assert found["function"]["ready"] == 1
        assert found["manifest"]["metadata"] == {"name": "chat", "namespace": "team-a"}
        assert found["revision"]["name"] == "chat-00001"
        assert set(found["start_eta_seconds"]) == {"schedule", "fetch", "import", "load", "warmup"}
        [replica] = found["replicas"]
        assert [phase["name"] for phase in replica["phases"]][-1] == "ready"
        assert found["decisions"][0]["inputs"]["slots"] == 256
        assert "engine_key" not in answer.text

    def test_logs_are_plain_text_and_bounded_by_tail(self, up: Any) -> None:
        answer = up.ask("GET", f"{API}/functions/team-a/chat/logs", params={"tail": 2})

        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert 1 <= len(answer.text.splitlines()) <= 2

    def test_a_followed_log_goes_on_until_the_replica_ends(self, up: Any) -> None:
        assert up.deploy("brief", scale={"keepAlive": "1s"}).status_code == 200
        assert up.chat("brief").status_code == 200

        answer = up.ask("GET", f"{API}/functions/team-a/brief/logs", params={"follow": 1})

        assert answer.status_code == 200
        assert answer.text

    def test_metrics_are_prometheus_text_without_keys_or_requests(self, up: Any) -> None:
        answer = up.ask("GET", "/metrics")

        assert re.search(r'pilotlight_replicas\{function="team-a/chat",state="ready"\} 1.0', answer.text)
        assert "pilotlight_activator_requests_total" in answer.text
        assert "key-" not in answer.text
        assert "req-" not in answer.text

    def test_health_needs_no_key(self, up: Any) -> None:
        assert httpx.get(f"{up.url}/healthz", trust_env=False).text == "ok\n"
        assert httpx.get(f"{up.url}/readyz", trust_env=False).text == "ready\n"

    def test_models_of_an_empty_registry(self, up: Any) -> None:
        assert up.items("models") == []


class TestDocument:
    def test_it_describes_every_operation_and_resolves_every_reference(self, up: Any) -> None:
        found = httpx.get(f"{up.url}{API}/openapi.json", trust_env=False).json()

        assert found["openapi"] == "3.1.0"
        operations = {(method, path) for path, methods in found["paths"].items() for method in methods}
        assert ("post", f"{API}/functions") in operations
        assert ("get", f"{API}/functions/{{namespace}}/{{name}}/logs") in operations
        assert len(operations) >= 16
        identifiers = [o["operationId"] for methods in found["paths"].values() for o in methods.values()]
        assert len(set(identifiers)) == len(identifiers)
        references = set(re.findall(r'"#/components/schemas/([^"]+)"', str(found).replace("'", '"')))
        assert references
        assert references <= set(found["components"]["schemas"])

    def test_what_it_says_is_what_is_served(self, up: Any) -> None:
        """Every documented GET without path parameters answers."""
        found = httpx.get(f"{up.url}{API}/openapi.json", trust_env=False).json()
        paths = [path for path, methods in found["paths"].items() if "get" in methods and "{" not in path]

        assert {path: up.ask("GET", path).status_code for path in paths} == dict.fromkeys(paths, 200)

    def test_the_page_needs_nothing_from_elsewhere(self, up: Any) -> None:
        answer = httpx.get(up.url, trust_env=False)

        assert answer.headers["content-type"].startswith("text/html")
        assert "<script" not in answer.text
        assert not re.search(r'(src|href)="(https?:)?//', answer.text)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert f"{API}/usage/rows" in answer.text
        assert "`" not in answer.text
        links = set(re.findall(r'href="#([^"]+)"', answer.text))
        assert {"KeyIn", "Function", "ErrorOut"} <= links
        assert links <= set(re.findall(r'id="([^"]+)"', answer.text))
