"""Which Secrets are made, kept and asked for."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pilotlight.platform.install.secrets import KEYS, needed, plan, secret
from pilotlight.platform.kubernetes.kinds import Object


def deployment(name: str, container: Mapping[str, Any], volumes: tuple[Mapping[str, Any], ...] = ()) -> Object:
    pod = {"containers": [{"name": name, "image": "any", **container}], "volumes": list(volumes)}
    return {"kind": "Deployment", "metadata": {"name": name}, "spec": {"template": {"spec": pod}}}


def by_key(name: str, key: str, optional: bool = False) -> Mapping[str, Any]:
    reference = {"name": name, "key": key} | ({"optional": True} if optional else {})
    return {"env": [{"name": "ANY", "valueFrom": {"secretKeyRef": reference}}]}


OPERATOR = deployment(
    "pilotlight-operator",
    {
        "env": [
            {"name": "PLAIN", "value": "1"},
            *by_key("pilotlight-master", "master")["env"],
            *by_key("pilotlight-admin", "key")["env"],
            *by_key("pilotlight-database", "url")["env"],
        ],
        "envFrom": [{"secretRef": {"name": "pilotlight-s3"}}],
    },
)
SERVERS = (deployment("pilotlight-minio", {}), deployment("pilotlight-postgres", {}))


def test_without_servers_of_its_own_storage_and_database_must_be_there() -> None:
    wanted = plan([OPERATOR], {})

    assert wanted.make.keys() == {"pilotlight-master", "pilotlight-admin"}
    assert len(wanted.problems) == 2
    assert "pilotlight-database is not there; it has the keys url" in wanted.problems[0]
    assert all(key in wanted.problems[1] for key in KEYS["pilotlight-s3"])


def test_servers_that_come_along_get_credentials_that_were_made_for_them() -> None:
    wanted = plan([OPERATOR, *SERVERS], {})

    assert wanted.problems == ()
    database, s3 = wanted.make["pilotlight-database"], wanted.make["pilotlight-s3"]
    assert database["password"] in database["url"]
    assert s3.keys() == set(KEYS["pilotlight-s3"])


def test_no_two_installations_share_a_secret() -> None:
    one, other = plan([OPERATOR, *SERVERS], {}).make, plan([OPERATOR, *SERVERS], {}).make
    assert one["pilotlight-master"] != other["pilotlight-master"]
    assert one["pilotlight-admin"] != other["pilotlight-admin"]
    assert one["pilotlight-database"]["password"] != other["pilotlight-database"]["password"]
    assert one["pilotlight-s3"]["AWS_SECRET_ACCESS_KEY"] != other["pilotlight-s3"]["AWS_SECRET_ACCESS_KEY"]


def test_keys_are_long_and_look_as_others_of_their_kind() -> None:
    made = plan([OPERATOR], {}).make
    assert re.fullmatch(r"[0-9a-f]{64}", made["pilotlight-master"]["master"])
    assert re.fullmatch(r"pl-[\w-]{43}", made["pilotlight-admin"]["key"])


@given(st.sets(st.sampled_from(sorted(KEYS))))
def test_what_is_there_is_never_made(names: set[str]) -> None:
    wanted = plan([OPERATOR, *SERVERS], {name: KEYS[name] for name in names})
    assert not names & wanted.make.keys()
    assert set(wanted.keep) == names & needed([OPERATOR]).keys()


def test_a_secret_without_a_key_that_is_read_is_a_problem_and_is_not_repaired() -> None:
    wanted = plan([OPERATOR], {"pilotlight-database": ("dsn",), "pilotlight-s3": ()})
    assert wanted.problems == ("the Secret pilotlight-database has no key url",)
    assert "pilotlight-database" not in wanted.make


def test_optional_secrets_are_not_asked_for() -> None:
    optional = deployment(
        "any",
        by_key("gone", "key", optional=True),
        ({"name": "tls", "secret": {"secretName": "tls", "optional": True}},),
    )
    assert needed([optional]) == {}


def test_a_secret_that_is_mounted_is_needed() -> None:
    mounted = deployment("any", {}, ({"name": "tls", "secret": {"secretName": "tls"}},))
    assert needed([mounted]) == {"tls": ()}


def test_values_are_written_as_the_api_server_takes_them() -> None:
    made = secret("system", "some", {"key": "väl"})
    assert made["metadata"]["namespace"] == "system"
    assert base64.b64decode(made["data"]["key"]).decode() == "väl"
