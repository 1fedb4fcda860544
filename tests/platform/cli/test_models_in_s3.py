"""`pilotlight models` where the registry is a bucket: past the platform, or past the command's own credentials."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import pytest

from pilotlight.platform.registry.push import PART_BYTES
from pilotlight.platform.registry.refs import ModelRef
from pilotlight.platform.registry.registry import Registry
from pilotlight.runtime.stores.s3 import S3Options, S3Store


class Result(Protocol):
    """How a command ended."""

    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture
def store(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    for key, value in s3_server.environment.items():
        monkeypatch.setenv(key, value)
    made = S3Store(f"cli-{uuid.uuid4().hex[:12]}", S3Options.from_environment())
    made.ensure_bucket()
    return made


@pytest.fixture
def bucket(store: S3Store) -> str:
    return store.address.removeprefix("s3://")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """With a file of two parts."""
    size = PART_BYTES + 1
    header = json.dumps({"embed": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "hidden_size": 4}')
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(size))
    return folder


@pytest.fixture
def chaos(s3_server: Any, chaos_proxy: Callable[[str], Any]) -> Any:
    return chaos_proxy(s3_server.endpoint)


@pytest.fixture
def platform(
    run_platform: Callable[[Path, Mapping[str, str]], AbstractContextManager[None]],
    s3_server: Any,
    bucket: str,
    chaos: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Path]:
    """Its state folder; it has the credentials, the commands do not."""
    state = tmp_path / "state"
    settings = {"PILOTLIGHT_BUCKETS": f"{bucket}, another", "PILOTLIGHT_S3_PUBLIC_ENDPOINT": chaos.url}
    with run_platform(state, {**s3_server.environment, **settings}):
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("PILOTLIGHT_STATE", str(state))
        yield state


def test_a_push_needs_no_credentials_and_its_bytes_go_to_the_store(
    cli: Cli, platform: Path, store: S3Store, bucket: str, model: Path, chaos: Any, tmp_path: Path
) -> None:
    ref = f"s3://{bucket}/chat:v1"

    pushed = cli("--state", str(platform), "models", "push", str(model), ref, "--json")
    pulled = cli("--state", str(platform), "models", "pull", ref, str(tmp_path / "back"))

    assert (pushed.code, pushed.err) == (0, "")
    told = json.loads(pushed.out)
    assert told["digest"] == Registry(store, bucket).resolve(ModelRef.parse(ref)).digest
    assert [method for method, path in chaos.requests if "partNumber" in path] == ["PUT", "PUT"]
    assert (pulled.code, pulled.err) == (0, "")
    for file in model.iterdir():
        assert (tmp_path / "back" / file.name).read_bytes() == file.read_bytes()


def test_a_store_that_fails_is_noted_beside_the_result(
    cli: Cli, platform: Path, bucket: str, model: Path, chaos: Any
) -> None:
    chaos.errors = 10**6

    pushed = cli("--state", str(platform), "models", "push", str(model), f"s3://{bucket}/chat:v1", "--json")

    assert pushed.code == 0
    assert json.loads(pushed.out)["reference"] == f"s3://{bucket}/chat:v1"
    assert pushed.err == (
        f"note: the model store at {chaos.url} answers 500 InternalError;"
        " files go through the platform, which may be slower\n"
    )


def test_a_bucket_that_is_not_for_models_is_refused(cli: Cli, platform: Path, model: Path) -> None:
    refused = cli("--state", str(platform), "models", "push", str(model), "s3://backups/chat:v1")

    assert refused.code == 1
    assert refused.err == (
        "error: bucket 'backups' is not for models: PILOTLIGHT_BUCKETS of the platform does not name it\n"
    )


def test_an_upload_token_is_enough_to_push(
    cli: Cli, platform: Path, bucket: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref, at = f"s3://{bucket}/team-a/chat:v1", ["--state", str(platform), "models"]
    made = cli(*at, "token", ref, "--valid", "10m")
    told = json.loads(cli(*at, "token", ref, "--json").out)

    monkeypatch.setenv("PILOTLIGHT_KEY", made.out.strip())
    pushed, pulled = cli(*at, "push", str(model), ref), cli(*at, "pull", ref, str(model.parent / "back"))
    listed = cli(*at, "list")

    assert made.out.startswith("plu-")
    assert set(told) == {"token", "expires"}
    assert (pushed.code, pushed.err) == (0, "")
    assert (pulled.code, pulled.err) == (1, "error: an upload token reads no files\n")
    assert listed.code == 1
    assert made.out.strip() not in pushed.out + listed.err
    assert cli(*at, "token", ref, "--valid", "25h").code == 1


def test_a_dry_run_says_what_would_be_removed(
    cli: Cli, platform: Path, store: S3Store, bucket: str, model: Path
) -> None:
    registry, ref = Registry(store, bucket), ModelRef.parse(f"s3://{bucket}/chat:v1")
    registry.push(model, ref)
    registry.untag(ref)
    collect = ["--state", str(platform), "models", "gc", "--bucket", bucket, "--grace", "0s"]

    dry, again, done = cli(*collect, "--dry-run"), cli(*collect, "--dry-run", "--json"), cli(*collect)

    assert dry.out.startswith("would remove 3 files (")
    assert json.loads(again.out)["blobs"] == 3
    assert done.out == dry.out.replace("would remove", "removed")
    assert list(store.list("blobs/")) == []


def test_with_credentials_of_ones_own_no_platform_is_needed(
    cli: Cli, store: S3Store, bucket: str, model: Path, tmp_path: Path
) -> None:
    ref = f"s3://{bucket}/chat:v1"

    pushed = cli("--url", "http://127.0.0.1:1", "models", "push", str(model), ref, "--direct", "--json")
    pulled = cli("--url", "http://127.0.0.1:1", "models", "pull", ref, str(tmp_path / "back"), "--direct")
    imported = cli("--url", "http://127.0.0.1:1", "models", "import", str(model), f"s3://{bucket}/two:v1", "--direct")

    assert (pushed.code, pulled.code, imported.code) == (0, 0, 0)
    assert json.loads(pushed.out)["digest"] in imported.out
    assert Registry(store, bucket).verify(ModelRef.parse(ref)).problems == ()
    assert (tmp_path / "back" / "model.safetensors").stat().st_size == (model / "model.safetensors").stat().st_size


def test_a_bucket_that_gives_no_access_says_what_to_set(
    cli: Cli, s3_server: Any, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server.endpoint)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))

    ended = cli("models", "push", str(model), "s3://models/chat:v1", "--direct")

    assert ended.code == 1
    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in ended.err
